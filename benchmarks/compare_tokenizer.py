"""Compare nextn's tokenizer with llama.cpp's on varied text.

    python benchmarks/compare_tokenizer.py smollm2 [--count 10000] [--seed 0] [--save FILE]

Prints how many texts give other token ids (with examples) and how many tokens give other bytes;
ends with status 1 if there are any. Writes results/tokenizer-NAME.json.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import random
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import llama_cpp

from machine import write_result
from nextn.files import open_checkpoint
from nextn.files.sources import resolve
from nextn.text.tokenizer import Tokenizer, load_tokenizer

EXAMPLES = 5
"""Differing texts that are printed in full."""

PROSE = """\
The quick brown fox jumps over the lazy dog; it's what they'd've said, isn't it? I'LL SEE. We'Re
Zwölf Boxkämpfer jagen Viktor quer über den großen Sylter Deich. Straße, Übergröße, naïve façade.
Portez ce vieux whisky au juge blond qui fume : « déjà vu » à l'œuvre, c'est-à-dire aujourd'hui.
El veloz murciélago hindú comía feliz cardillo y kiwi. ¿Qué? ¡Ñandú! Pchnąć w tę łódź jeża.
Съешь же ещё этих мягких французских булок, да выпей чаю. Щастя, Ґанок, їжак. Ξεσκεπάζω τηνψυχοφθόρα
נקרא לזה עברית: שָׁלוֹם עֲלֵיכֶם, 123. النص العربي مع الحَرَكات، والأرقام ٠١٢٣٤٥٦٧٨٩. فارسی می‌خواهم
हिन्दी में लिखा हुआ क्षत्रिय ज्ञान। বাংলা ভাষা, தமிழ் மொழி, ไทยไม่มีช่องว่างระหว่างคำ ລາວ မြန်မာ
我们的目标是在本地机器上运行语言模型。你好，世界！「繁體中文」與标点…… 日本語のテキスト、カタカナ
한국어 문장은 띄어쓰기가 있습니다. ㄱㄴㄷ ㅏㅑㅓ ᄒᆞᆫ글 ｶﾀｶﾅ。ភាសាខ្មែរ
Tiếng Việt: Trăm năm trong cõi người ta, chữ tài
İstanbul'da ılık çığ, ǅ ǆ Ǆ ſtreſs ﬁne ﬂow ﬀ ẞ ßẞ Ⅻ ⅻ ½ ¾ ² ³ ₄ ① ⑳ 〇 一二三 ௧௨ ༣ ៤ ꧕
"""

CODE = """\
def f(x: int) -> list[str]:\n    return [f"{i:>08.3f}" for i in range(x) if i % 2 == 0]  # ok?\n
int main(void) {\n\tprintf("%d\\n", 0xDEADBEEF << 3);\n\treturn 0;\n}\n
SELECT a.id, COUNT(*) AS n FROM `t` AS a WHERE a.x <> 'it''s' GROUP BY 1 HAVING n >= 10;\n
<div class="a b" data-x='{"k": [1, 2.5e-3, null]}'>&nbsp;&#x1F600;</div>\r\n\r\n
fn main() -> Result<(), Box<dyn Error>> { let v: Vec<_> = (0..10).map(|i| i * i).collect(); }\n
const a = async () => { await fetch(`/api/v1/${id}?q=1&r=%20`); return a?.b ?? null; };\n
| a | b |\n|---|:-:|\n| **x** | `y` |\n\n- [ ] item\n  1. sub\n\n> quote\n\n```py\nprint(1)\n```\n
https://user:pw@example.com:8080/a%20b/c_d?x=1&y=[2]#frag-3 git@host.tld:org/r.git C:\\d\\f.txt\n
\\begin{align} \\frac{\\partial f}{\\partial x} &= \\sum_{n=1}^{\\infty} 2^{-n} \\\\ \\end{align}\n
2024-02-29T23:59:59.999Z 1,234,567.89 0x1F 0b1011 1e-10 192.168.0.1 ::1 v1.2.3-rc.4 50% $3.99\n
"""

EMOJI = "😀 👍🏽 👨‍👩‍👧‍👦 🏳️‍🌈 🇩🇪🇯🇵 ❤️ ☃ ✔️ 🤖🦾 1️⃣ ♟️ 🫠 🪿 ⚡️ 👩🏿‍🚀 \U000e0067 © ™ ∑∫√∞≈≠ →⇒ █▓▒░ ♫"

SPACES = " \t\n\r\v\f\u0085\u00a0\u1680\u2003\u200b\u2028\u2029\u202f\u205f\u3000\ufeff\u2060"

# fmt: off
SPECIALS = [
    "<s>", "</s>", "<unk>", "<pad>", "<bos>", "<eos>", "<|endoftext|>", "<|im_start|>",
    "<|im_end|>", "<|eot_id|>", "<start_of_turn>", "<end_of_turn>", "<0x0A>", "<0xFF>", "[INST]",
    "[/INST]", "<<SYS>>", "<|assistant|>", "<think>", "</think>", "<tool_call>", "[PAD151650]",
    "▁", "▁▁", "<unused0>", "<mask>", "Ġ", "Ċ", "Ġthe", "âĢ", "<|a|><|", "|>", "<table>", "<td>",
    "<h1>", "[multimodal]",
]
# fmt: on


def _slice(text: str, rng: random.Random, longest: int) -> str:
    start = rng.randrange(len(text))
    return text[start : start + rng.randint(1, longest)]


def _random_unicode(rng: random.Random) -> str:
    ranges = [
        (0x20, 0x7F), (0xA0, 0x250), (0x250, 0x530), (0x590, 0x700), (0x900, 0xE80),
        (0x1100, 0x1200), (0x1E00, 0x2100), (0x2100, 0x2C00), (0x3000, 0x3100), (0x4E00, 0x9FFF),
        (0xAC00, 0xD7A4), (0xF900, 0xFB50), (0xFE00, 0x10000), (0x10000, 0x10400),
        (0x1D400, 0x1D800), (0x1F300, 0x1FAFF), (0x20000, 0x2A6D0), (0xE000, 0xF8FF),
        (0xE0000, 0x110000),
    ]  # fmt: skip
    chosen = rng.sample(ranges, rng.randint(1, 3))
    return "".join(chr(rng.randrange(*rng.choice(chosen))) for _ in range(rng.randint(1, 30)))


def _control(rng: random.Random) -> str:
    controls = [chr(c) for c in (*range(0x20), *range(0x7F, 0xA0), 0xFFFD, 0xFFFE)]
    return "".join(rng.choice([*controls, "a", " "]) for _ in range(rng.randint(1, 12)))


def _marks(rng: random.Random) -> str:
    letters = "aeiounAEcZаиאبकก한e"
    marks = [
        chr(c) for c in (*range(0x300, 0x345), 0x5B0, 0x64E, 0x93F, 0xE31, 0x20E3, 0x200D, 0xFE0F)
    ]
    return "".join(
        rng.choice(letters) + "".join(rng.choice(marks) for _ in range(rng.randint(0, 3)))
        for _ in range(rng.randint(1, 12))
    )


def _digits(rng: random.Random) -> str:
    pool = rng.choice(
        ["0123456789", "0123456789.,-+ eE", "٠١٢٣٤", "²³¹½Ⅷ①٣7", "0123456789abcdefx_"]
    )
    return "".join(rng.choice(pool) for _ in range(rng.randint(1, 24)))


def _runs(rng: random.Random) -> str:
    pool = [*" \n\t=-.!aA0'_哈", "\r\n", "\u3000", "\u00a0"]
    lengths = [1, 1, 2, 3, 4, 7, 8, 15, 16, 33]
    return "".join(rng.choice(pool) * rng.choice(lengths) for _ in range(6))


def texts(count: int, seed: int) -> Iterator[str]:
    """Yield `count` varied texts, the same for the same seed."""
    rng = random.Random(seed)
    simple: list[Callable[[], str]] = [
        lambda: _slice(PROSE, rng, 120),
        lambda: _slice(CODE, rng, 160),
        lambda: _slice(EMOJI, rng, 20),
        lambda: "".join(rng.choice(SPACES) for _ in range(rng.randint(1, 20))),
        lambda: rng.choice(SPECIALS),
        lambda: _random_unicode(rng),
        lambda: _control(rng),
        lambda: _marks(rng),
        lambda: _digits(rng),
        lambda: _runs(rng),
        lambda: rng.choice(
            ["'s", "'S", "'LL", "n't", "'ve ", "'", "’s", "camelCaseHTTPServer2Go", "ǅabc"]
        ),
    ]
    for index in range(count):
        if index % 10 == 0:
            yield "".join(rng.choice(simple)() for _ in range(rng.randint(8, 30)))
        else:
            yield "".join(rng.choice(simple)() for _ in range(rng.randint(1, 4)))


class Peer:
    """The tokenizer of llama.cpp, of the same file."""

    def __init__(self, path: Path) -> None:
        parameters = llama_cpp.llama_model_default_params()
        parameters.vocab_only = True
        self._model = llama_cpp.llama_model_load_from_file(str(path).encode(), parameters)
        if not self._model:
            raise SystemExit(f"{path}: llama.cpp cannot load this file")
        self._vocab = llama_cpp.llama_model_get_vocab(self._model)

    def encode(self, text: str, *, parse_special: bool) -> list[int]:
        """Return the token ids of `text`, without begin and end tokens."""
        data = text.encode()
        room = 2 * len(data) + 16
        ids = (llama_cpp.llama_token * room)()
        count = llama_cpp.llama_tokenize(
            self._vocab, data, len(data), ids, room, False, parse_special
        )
        if count < 0:
            raise RuntimeError(f"llama.cpp wants room for {-count} tokens, not {room}")
        return list(ids[:count])

    def piece(self, token: int) -> bytes:
        """Return the bytes of one token."""
        buffer = ctypes.create_string_buffer(512)
        size = llama_cpp.llama_token_to_piece(self._vocab, token, buffer, 512, 0, True)
        return buffer.raw[:size]

    def ends(self) -> set[int]:
        """Return the ids that end a generation."""
        count = llama_cpp.llama_vocab_n_tokens(self._vocab)
        return {i for i in range(count) if llama_cpp.llama_vocab_is_eog(self._vocab, i)}


def compare(ours: Tokenizer, peer: Peer, count: int, seed: int) -> dict[str, int]:
    """Print the differences and return their numbers."""
    result = {}
    seconds = 0.0
    for parse_special in (False, True):
        differing = []
        for text in texts(count, seed):
            start = time.perf_counter()
            ids = ours.encode(text, add_special=False, parse_special=parse_special)
            seconds += time.perf_counter() - start
            expected = peer.encode(text, parse_special=parse_special)
            if ids != expected:
                differing.append((text, ids, expected))
        print(f"parse_special={parse_special}: {len(differing)} of {count} texts differ")
        for text, ids, expected in sorted(differing, key=lambda case: len(case[0]))[:EXAMPLES]:
            print(f"  {text!r}\n    nextn     {ids}\n    llama.cpp {expected}")
        result["special tokens parsed" if parse_special else "plain text"] = len(differing)
    pieces = sum(ours.token_bytes(i) != peer.piece(i) for i in range(ours.vocab_size))
    print(f"{pieces} of {ours.vocab_size} tokens have other bytes")
    ends = peer.ends()
    if ends != ours.end_of_generation:
        print(
            f"end of generation: nextn {sorted(ours.end_of_generation)}, llama.cpp {sorted(ends)}"
        )
    print(f"nextn needed {seconds / 2:.2f} s for {count} texts")
    return result | {
        "bytes of tokens": pieces,
        "end tokens": len(ends ^ ours.end_of_generation),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", default="smollm2")
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--save", type=Path, help="store texts and llama.cpp's ids in this file")
    options = parser.parse_args()
    path = resolve(options.model).path
    peer = Peer(path)
    if options.save:
        sample = [
            [text, peer.encode(text, parse_special=False)]
            for text in texts(options.count, options.seed)
        ]
        lines = ",\n".join(json.dumps(case, separators=(",", ":")) for case in sample)
        options.save.write_text(f"[\n{lines}\n]\n")
    with open_checkpoint(path) as checkpoint:
        ours = load_tokenizer(checkpoint.tokenizer)
    differences = compare(ours, peer, options.count, options.seed)
    settings = {"count": options.count, "seed": options.seed}
    name = f"tokenizer-{options.model}"
    print(write_result(name, {"settings": settings, "differences": differences}))
    sys.exit(1 if any(differences.values()) else 0)


if __name__ == "__main__":
    main()
