"""Which of the known rules cuts a text into words: found by what tokenizer.json says about it.

GGUF files only name a rule. Its expressions are compared with those of `nextn.text.pretokenizers`,
so that a name is never guessed.
"""

from __future__ import annotations

from dataclasses import replace

from nextn.errors import UnsupportedModelError, shown
from nextn.files.safetensors import Config
from nextn.text.pretokenizers import PRE_TOKENIZERS, PreTokenizer

_GPT2_SPLITS = PRE_TOKENIZERS["gpt-2"].splits
_DIGITS = r"\p{N}"


def find_rule_name(tokenizer: Config) -> str:
    """The name of the rule for `tokenizer.ggml.pre`.

    Raises:
        UnsupportedModelError: none of the known rules.
        FileFormatError: a setting of the wrong type.
    """
    model = tokenizer.section("model")
    rule = PreTokenizer(
        tuple(_splits(tokenizer.section("pre_tokenizer"))),
        ignore_merges=model.boolean("ignore_merges", False),
        nfc=_normalises(tokenizer.section("normalizer")),
    )
    for name, known in PRE_TOKENIZERS.items():
        if replace(known, longest_number=None) == rule:
            return name
    raise _refused(
        tokenizer.path,
        f"cuts texts by {shown(' then '.join(rule.splits))}, which no known pre-tokenizer does",
    )


def _splits(node: Config) -> list[str]:
    kind = node.string("type", "none")
    match kind:
        case "Sequence":
            nodes = node.items("pretokenizers")
            return [split for part in nodes for split in _splits(_node(node, part))]
        case "Split":
            behaviour, inverted = node.string("behavior"), node.boolean("invert", False)
            # What matches and what does not both become words in either case, where the expression
            # matches everything, as those of the second kind do.
            if (behaviour, inverted) in (("Isolated", False), ("Removed", True)):
                return [node.section("pattern").string("Regex")]
            raise _refused(node.path, f"splits by {shown(behaviour)}")
        case "Digits":
            return [_DIGITS if node.boolean("individual_digits", False) else rf"{_DIGITS}+"]
        case "ByteLevel":
            if node.boolean("add_prefix_space", True):
                raise _refused(node.path, "puts a space before a text of bytes")
            return list(_GPT2_SPLITS) if node.boolean("use_regex", True) else []
    raise _refused(node.path, f"has a pre-tokenizer of the type {shown(kind)}")


def _normalises(node: Config) -> bool:
    """Whether texts are brought to the normal form C; any other change is refused."""
    kind = node.string("type", "none")
    if kind == "Sequence":
        # All of them are looked at, so that each is checked.
        return True in [_normalises(_node(node, part)) for part in node.items("normalizers")]
    if kind not in ("none", "NFC"):
        raise _refused(node.path, f"has a normalizer of the type {shown(kind)}")
    return kind == "NFC"


def _node(parent: Config, part: object) -> Config:
    return Config(parent.path, part if isinstance(part, dict) else {}, "pre_tokenizer.")


def _refused(path: object, what: str) -> UnsupportedModelError:
    return UnsupportedModelError(f"{path}: pre_tokenizer: the tokenizer {what}; not supported")
