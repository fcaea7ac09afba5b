"""How each family of byte-level BPE cuts a text into words before merging.

A GGUF file names its rule in `tokenizer.ggml.pre`. The rule is one or more regular expressions,
applied one after another: each cuts the pieces that the one before it left, and both the matches
and the text between them become pieces. A merge never crosses a cut, so a wrong rule gives valid
but different tokens: an unknown name is an error, not a guess.

The expressions are those of the families' own `tokenizer.json` files, in the syntax of Oniguruma.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from nextn.errors import UnsupportedModelError, shown


@dataclass(frozen=True, slots=True)
class PreTokenizer:
    """The rule of one family.

    Attributes:
        splits: regular expressions, applied in this order.
        ignore_merges: a piece that is a token as a whole is that token, whatever its merges say.
        nfc: the text is first brought to Unicode normal form C.
        longest_number: most digits in a row; their grouping takes time in proportion to the square.
    """

    splits: tuple[str, ...]
    ignore_merges: bool = False
    nfc: bool = False
    longest_number: int | None = None


_SPACES = r"\s*[\r\n]+|\s+(?!\S)|\s+"
_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_WORD = r"[^\r\n\p{L}\p{N}]?\p{L}+"
_PUNCTUATION = r" ?[^\s\p{L}\p{N}]+[\r\n]*"
_CJK = "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+"
_EAST_ASIAN = "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+"
_UPPER = r"\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}"
_LOWER = r"\p{Ll}\p{Lm}\p{Lo}\p{M}"

_GPT2_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_DEEPSEEK_WORDS = (
    r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"""
    rf"| ?[\p{{P}}\p{{S}}]+[\r\n]*|{_SPACES}"
)
# Letters of scripts with case: DeepSeek's first models cut words by this list of ranges.
_CASED_LETTERS = (
    "A-Za-z\u00b5\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u01ba\u01bc-\u01bf\u01c4-\u0293\u0295-\u02af"
    "\u0370-\u0373\u0376\u0377\u037b-\u037d\u037f\u0386\u0388-\u038a\u038c\u038e-\u03a1"
    "\u03a3-\u03f5\u03f7-\u0481\u048a-\u052f\u0531-\u0556\u10a0-\u10c5\u13a0-\u13f5\u13f8-\u13fd"
    "\u1c90-\u1cba\u1cbd-\u1cbf\u1d00-\u1d2b\u1d6b-\u1d77\u1d79-\u1d9a\u1e00-\u1f15\u1f18-\u1f1d"
    "\u1f20-\u1f45\u1f48-\u1f4d\u1f50-\u1f57\u1f59\u1f5b\u1f5d\u1f5f-\u1f7d\u1f80-\u1fb4"
    "\u1fb6-\u1fbc\u1fbe\u1fc2-\u1fc4\u1fc6-\u1fcc\u1fd0-\u1fd3\u1fd6-\u1fdb\u1fe0-\u1fec"
    "\u1ff2-\u1ff4\u1ff6-\u1ffc\u2102\u2107\u210a-\u2113\u2115\u2119-\u211d\u2124\u2126\u2128"
    "\u212a-\u212d\u212f-\u2134\u2139\u213c-\u213f\u2145-\u2149\u214e\u2183\u2184\u2c00-\u2c7b"
    "\u2c7e-\u2ce4\u2ceb-\u2cee\u2cf2\u2cf3\ua640-\ua66d\ua680-\ua69b\ua722-\ua76f\ua771-\ua787"
    "\ua78b-\ua78e\uab70-\uabbf\ufb00-\ufb06\ufb13-\ufb17\uff21-\uff3a\uff41-\uff5a"
    "\U00010400-\U0001044f\U000104b0-\U000104d3\U000104d8-\U000104fb\U00010c80-\U00010cb2"
    "\U00010cc0-\U00010cf2\U000118a0-\U000118df\U0001e900-\U0001e943"
)


def _cased_words(digits: str, suffix: str, upper: str = _UPPER, lower: str = _LOWER) -> str:
    """Words that are cut where a capital follows a small letter (o200k and its kin)."""
    start = r"[^\r\n\p{L}\p{N}]?"
    return (
        f"{start}[{upper}]*[{lower}]+{suffix}|{start}[{upper}]+[{lower}]*{suffix}"
        rf"|{digits}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{_SPACES}"
    )


_GPT2 = PreTokenizer((_GPT2_WORDS,))
_DIGITS = PreTokenizer((r"\p{N}", _GPT2_WORDS))
_QWEN2 = PreTokenizer((rf"{_CONTRACTIONS}|{_WORD}|\p{{N}}|{_PUNCTUATION}|{_SPACES}",))
_LLAMA3 = PreTokenizer((rf"{_CONTRACTIONS}|{_WORD}|\p{{N}}{{1,3}}|{_PUNCTUATION}|{_SPACES}",))
_DEEPSEEK3 = PreTokenizer((r"\p{N}{1,3}", _CJK, _DEEPSEEK_WORDS))
_GPT4O = PreTokenizer((_cased_words(r"\p{N}{1,3}", f"{_CONTRACTIONS}?"),))
_BAILING = PreTokenizer(
    (
        r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*"
        r"|\s*[\r\n]|\s+(?!\S)|\s+",
    )
)
_NOT_PUNCTUATION = " ?[^(\\s|.,!?\u2026\u3002\uff0c\u3001\u0964\u06d4\u060c)]+"
_SCRIPT_MARKS = (
    "[\uac00-\ud7a3\u3131-\u318e]+|[\uff01\u2026\u201c\u201d\u2018\u2019\u2014\uff1a\uff1b\uff0c\u3001-\u303f\ufe30-\ufe4f]+"
    f"|[\u3105-\u312f]+|{_CJK}"
)


def _known() -> dict[str, PreTokenizer]:
    with_merges_ignored = replace(_LLAMA3, ignore_merges=True)
    groups: list[tuple[PreTokenizer, str]] = [
        (_GPT2, "gpt-2 phi-2 jina-es jina-de jina-v2-es jina-v2-de jina-v2-code jina-v1-en"),
        (_GPT2, "roberta-bpe gigachat a.x-4.0 mellum modern-bert exaone4 jais trillion"),
        (_GPT2, "granite-docling"),
        (replace(_GPT2, nfc=True), "mpt olmo"),
        (_DIGITS, "smollm starcoder refact codeshell exaone minerva-7b mellum2"),
        (replace(_DIGITS, nfc=True), "command-r"),
        (with_merges_ignored, "llama-bpe llama3 llama-v3 falcon3 falcon-h1 pixtral midm-2.0 lfm2"),
        (with_merges_ignored, "jina-v5-nano glm4 chatglm-bpe"),
        (_LLAMA3, "dbrx smaug-bpe"),
        (replace(_QWEN2, nfc=True), "qwen2"),
        (_QWEN2, "stablelm2 deepseek-r1-qwen megrez hunyuan grok-2 solar-open kormo f2llmv2"),
        (_DEEPSEEK3, "deepseek-v3 hunyuan-dense joyai-llm hy_v4"),
        (_GPT4O, "gpt-4o minimax-m2 llama4 kanana2 talkie"),
        (_BAILING, "bailingmoe bailingmoe2 llada-moe"),
        (PreTokenizer((_NOT_PUNCTUATION,)), "poro-chat bloom gpt3-finnish"),
        (PreTokenizer((_NOT_PUNCTUATION, r"\p{N}")), "viking"),
    ]
    rules = {name: rule for rule, names in groups for name in names.split()}
    rules["qwen35"] = PreTokenizer(
        (
            rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?[\p{{L}}\p{{M}}]+|\p{{N}}"
            rf"| ?[^\s\p{{L}}\p{{M}}\p{{N}}]+[\r\n]*|{_SPACES}",
        ),
        nfc=True,
    )
    rules["default"] = PreTokenizer(
        (r"[\p{P}\$\+<=>\^~\|]+", _GPT2_WORDS, r"\p{N}+", "[0-9][0-9][0-9]")
    )
    rules["falcon"] = PreTokenizer((r"[\p{P}\$\+<=>\^~\|`]+", _GPT2_WORDS, "[0-9][0-9][0-9]"))
    rules["deepseek-llm"] = PreTokenizer(
        (
            r"[\r\n]",
            rf"\s?[{_CASED_LETTERS}]+",
            "\\s?[!-/:-~\uff01-\uff0f\uff1a-\uff5e\u2018-\u201f\u3000-\u3002]+",
            r"\s+$",
            _EAST_ASIAN,
            r"\p{N}+",
        )
    )
    rules["deepseek-coder"] = PreTokenizer(
        (r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", _EAST_ASIAN, r"\p{N}")
    )
    rules["tekken"] = PreTokenizer((_cased_words(r"\p{N}", ""),), ignore_merges=True)
    rules["kimi-k2"] = PreTokenizer(
        (
            r"[\p{Han}]+|"
            + _cased_words(
                r"\p{N}{1,3}",
                f"{_CONTRACTIONS}?",
                _UPPER + r"&&[^\p{Han}]",
                _LOWER + r"&&[^\p{Han}]",
            ).replace(r"[\r\n/]*", r"[\r\n]*"),
        )
    )
    rules["seed-coder"] = PreTokenizer(
        (rf"{_CONTRACTIONS}|{_WORD}|\p{{N}}| ?[^\s\p{{L}}\p{{N}}\r\n]+|{_SPACES}",)
    )
    rules["exaone-moe"] = PreTokenizer(
        (
            rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?(?:\p{{L}}\p{{M}}*(?: \p{{L}}\p{{M}}*)*)+"
            r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]|\s+(?!\S)|\s+",
        )
    )
    rules["tiny_aya"] = rules["cohere2moe"] = PreTokenizer(
        (r"\d{1,3}(?=(?:\d{3})*\b)", *_GPT4O.splits), longest_number=3000
    )
    rules["laguna"] = PreTokenizer((r"[^\n]+|[\n]+", *_QWEN2.splits))
    rules["youtu"] = PreTokenizer(
        (_SCRIPT_MARKS, _cased_words(r"\p{N}", f"{_CONTRACTIONS}?")), ignore_merges=True
    )
    rules["minicpm5"] = PreTokenizer(
        (
            r"\p{N}{1,3}",
            rf"{_CONTRACTIONS}|{_WORD}|\p{{N}}+|{_PUNCTUATION}|{_SPACES}",
        ),
        ignore_merges=True,
    )
    return rules


PRE_TOKENIZERS: dict[str, PreTokenizer] = _known()
"""The rules by the name that a file gives in `tokenizer.ggml.pre`."""


def find_pre_tokenizer(name: str, path: object) -> PreTokenizer:
    """Return the rule called `name`; an empty name means "default".

    Args:
        name: as in `tokenizer.ggml.pre`.
        path: the file, for error messages.

    Raises:
        UnsupportedModelError: nextn does not know the rule.
    """
    try:
        return PRE_TOKENIZERS[name or "default"]
    except KeyError:
        raise UnsupportedModelError(
            f"{path}: tokenizer.ggml.pre: unknown pre-tokenizer {shown(name)}; known are "
            + ", ".join(sorted(PRE_TOKENIZERS))
        ) from None
