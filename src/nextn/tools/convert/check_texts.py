"""Texts of many kinds, on which two tokenizers show whether they are the same."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

_TEXTS = (
    "The quick brown fox jumps over the lazy dog; it's what they'd've said, isn't it?",
    "I'LL SEE. We'Re 'S 'Ve n't ''s camelCaseHTTPServer2Go snake_case_9 CONST_NAME x'y",
    "1 12 123 1234 12345 1,234,567.89 0x1F 3.14e-10 2024-02-29T23:59:59Z v1.2.3 10%",
    "def f(x: int) -> list[str]:\n    return [f'{i:>08.3f}' for i in range(x)]  # ok?\n\n\n",
    "\tif (a != b) {\r\n\t\treturn -1;\r\n\t}\r\n\r\n   \n  x   y    z     \n \n  ",
    '...!!! ??? -- == <=> &&|| ;;; ((()))[]{} $5 #tag @me ~/path C:\\dir "quoted" `code`',
    "https://example.com:8080/a%20b/c_d?x=1&y=[2]#frag-3 git@host.tld:org/repo.git",
    "我们的目标是在本地机器上运行语言模型。你好，世界！日本語のテキスト、カタカナ。123个",
    "한국어 문장은 띄어쓰기가 있습니다. Größe straße ÀÉÎ naïve Ελληνικά русский עברית العربية",
    "e\u0301 A\u030a \u1112\u1161\u11ab \ufb01 \u212b",
    "a b  c   d\u3000e\u00a0f\u2003g \u3000 h",
    "😀 👍🏽 👩‍👩‍👧 ☃ ✔ ⚡ → ⇒ █▓▒░ ∑∫√∞ © ™ 🤖🤖 𝒜 𐍈 \u0000 \u007f \ufeff",
    " leading, trailing  ",
    "\n\n\n",
    "x",
    "²³ ½ Ⅷ ١٢٣ 四 5️⃣ v²x₁",
)
_WORDS_PER_TEXT = 40
_MOST_WORDS = 4000
_STARTS_OF_SPECIAL = ("<", "[", "\u2581<")


def check_texts(tokens: Sequence[str]) -> Iterator[str]:
    """The texts, and words that a vocabulary is made of, with and without a space before them.

    Args:
        tokens: texts of all tokens; some of them, spread over all, become words.
    """
    yield from _TEXTS
    step = max(1, len(tokens) // _MOST_WORDS)
    words = [
        token.replace("\u2581", " ").replace("\u0120", " ").replace("\u010a", "\n")
        for token in tokens[::step]
        if not token.startswith(_STARTS_OF_SPECIAL)
    ]
    for start in range(0, len(words), _WORDS_PER_TEXT):
        some = words[start : start + _WORDS_PER_TEXT]
        yield "".join(some)
        yield " ".join(some)
