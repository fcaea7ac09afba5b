"""Writes a random model of 1.6 billion parameters in the shape of Qwen3, for timings.

The time of a step does not depend on what the weights say, so random blocks do, and a model of any
block format is there in seconds without a download. The same format and seed give the same bytes.
The tensors are drawn and written one after the other: memory holds one at a time.

    python benchmarks/make_random_model.py random-1.6b-q4_0.gguf --type Q4_0
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter
from numpy.typing import NDArray

# The random blocks and the small tokenizer are those of the tests.
sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.support.random_blocks import random_blocks
from tests.support.tiny_tokenizers import CHATML_TEMPLATE, byte_level_bpe

TYPES = ("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q4_K", "Q5_K", "Q6_K", "F16")
BLOCKS = 26
HIDDEN = 2048
FEED_FORWARD = 6144
HEADS, KV_HEADS, HEAD_WIDTH = 16, 8, 128
VOCABULARY = 151_936
CONTEXT = 40_960
ROWS_AT_ONCE = 8192
# Of each block's output, so that the sum over all blocks has a deviation of about 1.
RESIDUAL_DEVIATION = (2 * BLOCKS) ** -0.5
_ENDS_A_BRANCH = ("attn_output.weight", "ffn_down.weight")

Tensor = tuple[str, tuple[int, ...]]


def tensors(blocks: int) -> Iterator[Tensor]:
    """Names and shapes, rows first; the output matrix is the embedding table."""
    query, key = HEADS * HEAD_WIDTH, KV_HEADS * HEAD_WIDTH
    yield "token_embd.weight", (VOCABULARY, HIDDEN)
    for n in range(blocks):
        for name, shape in (
            ("attn_norm", (HIDDEN,)),
            ("attn_q", (query, HIDDEN)),
            ("attn_k", (key, HIDDEN)),
            ("attn_v", (key, HIDDEN)),
            ("attn_output", (HIDDEN, query)),
            ("attn_q_norm", (HEAD_WIDTH,)),
            ("attn_k_norm", (HEAD_WIDTH,)),
            ("ffn_norm", (HIDDEN,)),
            ("ffn_gate", (FEED_FORWARD, HIDDEN)),
            ("ffn_up", (FEED_FORWARD, HIDDEN)),
            ("ffn_down", (HIDDEN, FEED_FORWARD)),
        ):
            yield f"blk.{n}.{name}.weight", shape
    yield "output_norm.weight", (HIDDEN,)


def draw(tensor: Tensor, type_name: str, rng: np.random.Generator) -> NDArray[np.generic]:
    """The values of a tensor: float32 norms, or the bytes of a matrix of random blocks."""
    name, shape = tensor
    if len(shape) == 1:
        return (1 + 0.1 * rng.standard_normal(shape)).astype(np.float32)
    rows, columns = shape
    # Keeps what a row computes from inputs of deviation 1 at deviation 1.
    deviation = columns**-0.5
    if name.endswith(_ENDS_A_BRANCH):
        deviation *= RESIDUAL_DEVIATION
    parts = [
        random_blocks(
            type_name,
            min(ROWS_AT_ONCE, rows - start),
            columns,
            seed=int(rng.integers(1 << 32)),
            deviation=deviation,
        )
        for start in range(0, rows, ROWS_AT_ONCE)
    ]
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def write(path: Path, type_name: str, *, blocks: int = BLOCKS, seed: int = 0) -> int:
    """Write the model.

    Returns:
        The number of its parameters.
    """
    writer = GGUFWriter(path, "qwen3")
    writer.add_type("model")
    writer.add_name(f"Random 1.6B {type_name}")
    writer.add_block_count(blocks)
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_key_length(HEAD_WIDTH)
    writer.add_value_length(HEAD_WIDTH)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(1e6)
    writer.add_quantization_version(2)
    tokenizer = byte_level_bpe(VOCABULARY, pre="qwen2", chat_template=CHATML_TEMPLATE)
    for key, value in tokenizer.items():
        match value:
            case bool():
                writer.add_bool(key, value)
            case int():
                writer.add_uint32(key, value)
            case str():
                writer.add_string(key, value)
            case _:
                writer.add_array(key, value)

    rng = np.random.default_rng(seed)
    parameters = 0
    matrix = GGMLQuantizationType[type_name]
    for name, shape in tensors(blocks):
        parameters += int(np.prod(shape))
        if len(shape) == 1:
            size = 4 * shape[0]
            writer.add_tensor_info(name, shape, np.dtype(np.float32), size)
        else:
            row_bytes = random_blocks(type_name, 1, shape[1]).nbytes
            # For raw types the package takes the shape in bytes.
            stored = (shape[0], row_bytes)
            size = shape[0] * row_bytes
            writer.add_tensor_info(name, stored, np.dtype(np.uint8), size, raw_dtype=matrix)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for tensor in tensors(blocks):
        writer.write_tensor_data(draw(tensor, type_name, rng))
    writer.close()
    return parameters


def main() -> None:
    """Write one file and say what it is."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("path", type=Path)
    parser.add_argument("--type", choices=TYPES, default="Q4_0", help="format of all matrices")
    parser.add_argument("--blocks", type=int, default=BLOCKS)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    started = time.perf_counter()
    parameters = write(arguments.path, arguments.type, blocks=arguments.blocks, seed=arguments.seed)
    print(
        f"{arguments.path}: {parameters / 1e9:.2f} billion parameters, "
        f"{arguments.path.stat().st_size / 1e6:.0f} MB, {time.perf_counter() - started:.0f} s"
    )


if __name__ == "__main__":
    main()
