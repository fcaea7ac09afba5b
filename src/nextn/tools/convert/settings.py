"""From config.json to the sizes of a model and the metadata of its GGUF file."""

from __future__ import annotations

from nextn.errors import UnsupportedModelError, shown
from nextn.files.gguf.writer import NewValue
from nextn.files.safetensors import Config, SafetensorsFolder
from nextn.models.heads import MOST_HEAD_WIDTH
from nextn.tools.convert.families import FAMILIES, LARGEST_GEMMA_BLOCKS, Dimensions, FamilyMap
from nextn.tools.convert.rope import rope_metadata

HEAD_COUNTS = ("num_nextn_predict_layers", "mtp_num_hidden_layers", "num_mtp_layers")
"""Settings that say how many blocks of a prediction head there are."""
MORE_HEAD_COUNTS = ("num_mtp_modules", "mtp_num_layers", "n_predict_layers", "medusa_num_heads")
"""The same in families whose heads nextn does not convert."""

_LARGEST = 1 << 31
_GLOBAL_EVERY = 6
# Settings that say nothing about what the model computes, or are read here or elsewhere.
_KNOWN_TEXT = """
    _name_or_path architectures model_type torch_dtype dtype transformers_version use_cache
    initializer_range tie_word_embeddings vocab_size hidden_size intermediate_size
    num_hidden_layers num_attention_heads num_key_value_heads head_dim rms_norm_eps
    max_position_embeddings rope_theta rope_scaling rope_parameters rope_local_base_freq
    sliding_window use_sliding_window max_window_layers layer_types cache_implementation
    sliding_window_pattern query_pre_attn_scalar bos_token_id eos_token_id pad_token_id unk_token_id
    attention_dropout hidden_dropout_prob attention_bias pretraining_tp quantization_config
    output_attentions output_hidden_states return_dict rope_interleaved is_llama_config
    eoi_token_index boi_token_index image_token_index mm_tokens_per_image vision_config text_config
    auto_map unsloth_fixed unsloth_version transformers.js_config chunk_size_feed_forward
    is_encoder_decoder is_decoder id2label label2id task_specific_params problem_type
    use_qk_norm num_mtp_layers num_nextn_predict_layers mtp_num_hidden_layers
    mtp_use_dedicated_embeddings add_cross_attention partial_rotary_factor
"""
_KNOWN = frozenset(_KNOWN_TEXT.split())


def find_family(folder: SafetensorsFolder) -> tuple[FamilyMap, Config]:
    """Find the family of a checkpoint, and the part of its configuration that is about text.

    Raises:
        UnsupportedModelError: no family that nextn knows.
        SourceError, FileFormatError: the configuration cannot be read.
    """
    config = folder.config
    name = config.string("model_type")
    for family in FAMILIES:
        if name in family.model_types:
            return family, config.section("text_config") if "text_config" in config else config
    known = ", ".join(name for family in FAMILIES for name in family.model_types)
    raise UnsupportedModelError(
        f"{config.path}: model_type: {shown(name)} is not supported; nextn converts {known}"
    )


def read_dimensions(family: FamilyMap, config: Config, vocabulary: int) -> Dimensions:
    """Read the sizes of a model.

    Args:
        family: of the model.
        config: the part of its configuration that is about text.
        vocabulary: rows of its embedding.

    Raises:
        FileFormatError: a size that is missing or cannot be.
    """

    def size(key: str, default: int | None = None, maximum: int = _LARGEST) -> int:
        usual = family.defaults.get(key, default)
        if isinstance(usual, int):
            return config.integer(key, usual, minimum=1, maximum=maximum)
        return config.integer(key, minimum=1, maximum=maximum)

    hidden, heads = size("hidden_size"), size("num_attention_heads")
    if "head_dim" not in config and "head_dim" not in family.defaults and hidden % heads:
        config.fail("num_attention_heads", f"{heads} heads do not divide {hidden} elements")
    kv_heads = size("num_key_value_heads", heads)
    if heads % kv_heads:
        config.fail("num_key_value_heads", f"{heads} heads do not divide into {kv_heads} groups")
    width = size("head_dim", max(1, hidden // heads), MOST_HEAD_WIDTH)
    if width % 2:
        config.fail("head_dim", f"{width} is odd")
    return Dimensions(
        blocks=size("num_hidden_layers", maximum=1 << 16),
        hidden=hidden,
        heads=heads,
        kv_heads=kv_heads,
        head_width=width,
        feed_forward=size("intermediate_size"),
        vocabulary=vocabulary,
    )


def model_metadata(
    family: FamilyMap, config: Config, sizes: Dimensions, notes: list[str]
) -> dict[str, NewValue]:
    """The keys of a GGUF file that describe what the model computes, but for its block count.

    Args:
        family: of the model.
        config: the part of its configuration that is about text.
        sizes: of the model.
        notes: what the user should know is added to it.

    Raises:
        FileFormatError: a setting that is missing or cannot be.
        UnsupportedModelError: a setting that nextn's description of the family cannot follow.
    """
    _check_fixed(family, config)
    unknown = sorted(set(config) - _KNOWN - set(family.fixed) - set(MORE_HEAD_COUNTS))
    if unknown:
        notes.append(
            f"{config.path.name} has settings that nextn does not know, and that are not in the "
            f"file: {', '.join(map(shown, unknown[:8]))}"
        )
    arch = family.architecture
    keys: dict[str, NewValue] = {
        f"{arch}.context_length": _context(family, config, notes),
        f"{arch}.embedding_length": sizes.hidden,
        f"{arch}.feed_forward_length": sizes.feed_forward,
        f"{arch}.attention.head_count": sizes.heads,
        f"{arch}.attention.head_count_kv": sizes.kv_heads,
        f"{arch}.attention.layer_norm_rms_epsilon": _number(family, config, "rms_norm_eps"),
        **rope_metadata(family, config, sizes),
    }
    usual_width = (
        sizes.hidden % sizes.heads == 0 and sizes.head_width == sizes.hidden // sizes.heads
    )
    if family.writes_head_width or not usual_width:
        keys[f"{arch}.attention.key_length"] = sizes.head_width
        keys[f"{arch}.attention.value_length"] = sizes.head_width
    if arch == "llama":
        keys["llama.vocab_size"] = sizes.vocabulary
    if arch == "gemma3":
        keys["gemma3.attention.sliding_window"] = _window(family, config)
        _check_gemma(config, sizes)
    return keys


def is_tied(family: FamilyMap, folder: SafetensorsFolder, config: Config) -> bool:
    """Whether the output matrix is the embedding."""
    outer = folder.config
    return config.boolean("tie_word_embeddings", outer.boolean("tie_word_embeddings", family.tied))


def declared_head_blocks(folder: SafetensorsFolder, config: Config) -> tuple[str, int] | None:
    """The setting that declares blocks of a prediction head, and their number; None without one."""
    for place in (config, folder.config):
        for key in (*HEAD_COUNTS, *MORE_HEAD_COUNTS):
            if key in place and (count := place.integer(key, minimum=0)):
                return place.field(key), count
    return None


def _number(family: FamilyMap, config: Config, key: str) -> float:
    usual = family.defaults.get(key)
    if isinstance(usual, int | float):
        return config.number(key, float(usual), minimum=0.0)
    return config.number(key, minimum=0.0)


def _check_fixed(family: FamilyMap, config: Config) -> None:
    for key, allowed in family.fixed.items():
        value = config.value(key)
        if value is not None and value not in allowed:
            can = f"only {' or '.join(map(repr, allowed))}" if allowed else "none"
            raise UnsupportedModelError(
                f"{config.path}: {config.field(key)}: is {shown(repr(value))}; nextn's "
                f"{family.architecture} knows {can}"
            )


def _context(family: FamilyMap, config: Config, notes: list[str]) -> int:
    """Tokens that the model was trained for.

    A window over all blocks changes nothing in a context that fits into it.
    """
    usual = family.defaults.get("max_position_embeddings")
    context = (
        config.integer("max_position_embeddings", usual, minimum=1, maximum=_LARGEST)
        if isinstance(usual, int)
        else config.integer("max_position_embeddings", minimum=1, maximum=_LARGEST)
    )
    if family.architecture == "gemma3" or not config.boolean("use_sliding_window", True):
        return context
    if family.architecture != "llama" and "use_sliding_window" not in config:
        return context
    window = config.integer("sliding_window", context, minimum=1)
    if window < context:
        notes.append(
            f"{config.path.name}: {config.field('sliding_window')} is {window}, which nextn's "
            f"{family.architecture} has not; the file is for a context of {window} in place of "
            f"{context}, in which it changes nothing"
        )
    return min(window, context)


def _window(family: FamilyMap, config: Config) -> int:
    usual = family.defaults["sliding_window"]
    assert isinstance(usual, int)
    return config.integer("sliding_window", usual, minimum=1, maximum=_LARGEST)


def _check_gemma(config: Config, sizes: Dimensions) -> None:
    """Check what Gemma's description takes for granted."""
    types = config.strings("layer_types")
    usual = [
        "full_attention" if (n + 1) % _GLOBAL_EVERY == 0 else "sliding_attention"
        for n in range(sizes.blocks)
    ]
    if types and types != usual:
        raise UnsupportedModelError(
            f"{config.path}: {config.field('layer_types')}: nextn's gemma3 has a global layer "
            "after every five local ones; this model has another order"
        )
    largest = sizes.blocks == LARGEST_GEMMA_BLOCKS
    scaled = sizes.hidden // sizes.heads if largest else sizes.head_width
    default = scaled if largest else 256
    if config.number("query_pre_attn_scalar", float(default)) != scaled:
        raise UnsupportedModelError(
            f"{config.path}: {config.field('query_pre_attn_scalar')}: nextn's gemma3 of "
            f"{sizes.blocks} blocks scales attention by {scaled}"
        )
