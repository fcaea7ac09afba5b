"""Makes the stored samples in `data/` that the tests of `nextn.text` compare with.

    python tests/text/make_data.py

Needs transformers (for `rendered.json`), and llama-cpp-python, gguf and tokenizers (for
`pretokenizers.json`). The token samples of real models, `*_tokens.json`, come from
`benchmarks/compare_tokenizer.py MODEL.gguf --count 100 --seed 1 --save FILE`.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import gguf
import llama_cpp
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers.utils.chat_template_utils import _compile_jinja_template

DATA = Path(__file__).parent / "data"
BENCHMARKS = Path(__file__).parents[2] / "benchmarks"

# The names for which llama.cpp follows the model's own expression on the texts below.
# fmt: off
NAMES = [
    "smollm", "gpt-2", "default", "llama-bpe", "qwen2", "qwen35", "deepseek-v3", "glm4", "falcon",
    "bailingmoe", "exaone-moe", "seed-coder", "laguna", "minicpm5", "command-r", "gpt-4o",
    "tekken", "viking",
]
# fmt: on

# Plain and composed characters only: llama.cpp neither normalises nor knows the case of letters
# beyond ASCII.
TEXTS = [
    "The quick brown fox jumps over the lazy dog; it's what they'd've said, isn't it?",
    "I'LL SEE. We'Re 'S 'Ve n't ''s camelCaseHTTPServer2Go snake_case_9 CONST_NAME x'y",
    "1 12 123 1234 12345 123456 1,234,567.89 0x1F 3.14e-10 2024-02-29T23:59:59Z v1.2.3 10%",
    "def f(x: int) -> list[str]:\n    return [f'{i:>08.3f}' for i in range(x)]  # ok?\n\n\n",
    "\tif (a != b) {\r\n\t\treturn -1;\r\n\t}\r\n\r\n   \n  x   y    z     \n \n  ",
    '...!!! ??? -- == <=> &&|| ;;; ((()))[]{} $5 #tag @me ~/path C:\\dir "quoted" `code`',
    "https://example.com:8080/a%20b/c_d?x=1&y=[2]#frag-3 git@host.tld:org/repo.git",
    "我们的目标是在本地机器上运行语言模型。你好，世界！日本語のテキスト、カタカナ。123个",
    "한국어 문장은 띄어쓰기가 있습니다. Zahlen: 1000, 2000 und 30 000.",
    "a b  c   d\u3000e\u00a0f\u2003g \u3000 h",
    "😀 👍 ☃ ✔ ⚡ → ⇒ █▓▒░ ∑∫√∞ © ™ 🤖🤖",
    " leading, trailing  ",
    "\n\n\n",
    "x",
]


def render_templates() -> None:
    """Render every template with every conversation by transformers; null where it refuses."""
    conversations: dict[str, dict[str, Any]] = json.loads((DATA / "conversations.json").read_text())
    rendered: dict[str, dict[str, str | None]] = {}
    for path in sorted((DATA / "templates").glob("*.jinja")):
        template = _compile_jinja_template(path.read_text())
        for name, conversation in conversations.items():
            variables = {
                "add_generation_prompt": True,
                "tools": None,
                "documents": None,
                "bos_token": "<s>",
                "eos_token": "</s>",
                **conversation.get("variables", {}),
            }
            try:
                text = template.render(messages=conversation["messages"], **variables)
            except Exception as error:
                print(f"{path.stem} refuses {name}: {error}", file=sys.stderr)
                text = None
            rendered.setdefault(path.stem, {})[name] = text
    _write("rendered.json", rendered)


def tokenize_by_rule() -> None:
    """Encode the texts by llama.cpp with a small vocabulary under each pre-tokenizer.

    The vocabulary is trained on the texts without any cuts, so that every cut of a rule changes
    the tokens.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    trainer = trainers.BpeTrainer(
        vocab_size=2000,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        max_token_length=12,
        show_progress=False,
    )
    tokenizer.train_from_iterator([*TEXTS, *TEXTS], trainer)
    model = json.loads(tokenizer.to_str())["model"]
    tokens = sorted(model["vocab"], key=model["vocab"].get)
    tokens += ["[first]", "[last]"]
    merges = [" ".join(merge) for merge in model["merges"]]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "vocabulary.gguf"
        ids = {name: _encode_by_llama_cpp(path, name, tokens, merges) for name in NAMES}
    _write("pretokenizers.json", {"tokens": tokens, "merges": merges, "texts": TEXTS, "ids": ids})


def _encode_by_llama_cpp(
    path: Path, name: str, tokens: list[str], merges: list[str]
) -> list[list[int]]:
    sys.path.insert(0, str(BENCHMARKS))
    from compare_tokenizer import Peer

    writer = gguf.GGUFWriter(path, "llama")
    for add in (
        writer.add_context_length,
        writer.add_embedding_length,
        writer.add_block_count,
        writer.add_feed_forward_length,
        writer.add_head_count,
    ):
        add(1)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(name)
    writer.add_token_list(tokens)
    writer.add_token_types([1] * (len(tokens) - 2) + [3, 3])
    writer.add_token_merges(merges)
    writer.add_bos_token_id(len(tokens) - 2)
    writer.add_eos_token_id(len(tokens) - 1)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    peer = Peer(path)
    return [peer.encode(text, parse_special=False) for text in TEXTS]


def _write(name: str, content: dict[str, Any]) -> None:
    lines = ",\n".join(
        f"{json.dumps(key)}: {json.dumps(value, separators=(',', ':'))}"
        for key, value in content.items()
    )
    (DATA / name).write_text(f"{{\n{lines}\n}}\n")


if __name__ == "__main__":
    llama_cpp.llama_backend_init()
    render_templates()
    tokenize_by_rule()
