"""Measures memory and speed of moving heads between large files.

Files with the shapes of Qwen3.6 35B-A3B and 27B in Q8_0, and of 27B in F32 in parts (over 100 GB),
are made in a temporary folder. Their trunks are holes, so that they take no space; their heads are
random bytes. Each operation runs in a process of its own, which reports its time and the peak of
its memory, mapped pages included. In the same rounds `cp` copies a file of the bytes that are
written, without and with `sync`: nextn always ends with fsync. The fastest rounds of both are
compared, too, as a machine that does other things makes single rounds slow. A small model without
holes is copied whole.
"""

from __future__ import annotations

import argparse
import math
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import machine
from nextn.files.block_encoding import F32, Q8_0
from nextn.files.block_formats import BlockType
from nextn.files.gguf.encoding import NewValue
from nextn.files.gguf.new_tensors import tensor_bytes
from nextn.files.gguf.writer import (
    NewTensor,
    TensorCopy,
    TensorPieces,
    part_paths,
    parts_by_size,
    write_gguf,
)

VOCABULARY = 248_320
LARGEST_PART = 50_000_000_000
LEAST_FREE = 12_000_000_000
# Runs one tool, and prints the seconds that it took, and the most KiB that were resident. The
# `ru_maxrss` of a child would begin with that of its parent.
CHILD = """
import sys, time
from pathlib import Path
from nextn.tools.attach import attach_head
from nextn.tools.detach import detach_head
from nextn.tools.extract import extract_head
tool = {"extract": extract_head, "attach": attach_head, "detach": detach_head}[sys.argv[1]]
start = time.perf_counter()
tool(*map(Path, sys.argv[2:]))
seconds = time.perf_counter() - start
(peak,) = [line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM:")]
print(seconds, peak)
"""


@dataclass(frozen=True)
class Shape:
    """A model of the family qwen35: sizes as in its published configuration."""

    name: str
    hidden: int
    blocks: int
    heads: int
    kv_heads: int
    value_heads: int
    feed_forward: int
    experts: int = 0
    head_width: int = 256

    @property
    def architecture(self) -> str:
        """The family's name in files."""
        return "qwen35moe" if self.experts else "qwen35"

    def tensors(self) -> dict[str, tuple[int, ...]]:
        """Every tensor, rows first; the head's block is the last one."""
        shapes: dict[str, tuple[int, ...]] = {"token_embd.weight": (VOCABULARY, self.hidden)}
        for block in range(self.blocks + 1):
            is_head = block == self.blocks
            parts = self._attention() if is_head or block % 4 == 3 else self._delta()
            parts |= {"attn_norm.weight": (self.hidden,), **self._feed_forward()}
            if is_head:
                parts["nextn.eh_proj.weight"] = (self.hidden, 2 * self.hidden)
                for norm in ("enorm", "hnorm", "shared_head_norm"):
                    parts[f"nextn.{norm}.weight"] = (self.hidden,)
            shapes |= {f"blk.{block}.{name}": shape for name, shape in parts.items()}
        output = {"output_norm.weight": (self.hidden,), "output.weight": (VOCABULARY, self.hidden)}
        return shapes | output

    def _attention(self) -> dict[str, tuple[int, ...]]:
        queries, keys = self.heads * self.head_width, self.kv_heads * self.head_width
        return {
            "attn_q.weight": (2 * queries, self.hidden),
            "attn_k.weight": (keys, self.hidden),
            "attn_v.weight": (keys, self.hidden),
            "attn_output.weight": (self.hidden, queries),
            "attn_q_norm.weight": (self.head_width,),
            "attn_k_norm.weight": (self.head_width,),
        }

    def _delta(self) -> dict[str, tuple[int, ...]]:
        keys, values = 16 * 128, self.value_heads * 128
        return {
            "attn_qkv.weight": (2 * keys + values, self.hidden),
            "attn_gate.weight": (values, self.hidden),
            "ssm_beta.weight": (self.value_heads, self.hidden),
            "ssm_alpha.weight": (self.value_heads, self.hidden),
            "ssm_conv1d.weight": (2 * keys + values, 4),
            "ssm_dt.bias": (self.value_heads,),
            "ssm_a": (self.value_heads,),
            "ssm_norm.weight": (128,),
            "ssm_out.weight": (self.hidden, values),
        }

    def _feed_forward(self) -> dict[str, tuple[int, ...]]:
        norm = {"post_attention_norm.weight": (self.hidden,)}
        up, down = (self.feed_forward, self.hidden), (self.hidden, self.feed_forward)
        if not self.experts:
            return norm | {
                "ffn_gate.weight": up, "ffn_up.weight": up, "ffn_down.weight": down
            }  # fmt: skip
        experts = {
            "ffn_gate_exps.weight": (self.experts, *up),
            "ffn_up_exps.weight": (self.experts, *up),
            "ffn_down_exps.weight": (self.experts, *down),
        }
        shared = {
            "ffn_gate_shexp.weight": up, "ffn_up_shexp.weight": up, "ffn_down_shexp.weight": down,
            "ffn_gate_inp.weight": (self.experts, self.hidden),
            "ffn_gate_inp_shexp.weight": (self.hidden,),
        }  # fmt: skip
        return norm | experts | shared


QWEN_35B = Shape("35B-A3B", 2048, 40, 16, 2, 32, 512, experts=256)
QWEN_27B = Shape("27B", 5120, 64, 24, 4, 48, 17_408)
SMALL = Shape("27B, first block only, no holes", 5120, 1, 24, 4, 48, 17_408)


def write_model(
    path: Path, shape: Shape, trunk_type: BlockType, *, holes: bool = True, in_parts: bool = False
) -> list[Path]:
    """Write a model with a head in Q8_0; the first part comes first."""
    hole = path.with_suffix(".hole")
    with hole.open("wb") as file:
        file.truncate(8_000_000_000)
    tensors: dict[str, NewTensor] = {}
    for name, sizes in shape.tensors().items():
        is_head = name.startswith(f"blk.{shape.blocks}.")
        kind = Q8_0 if is_head else trunk_type
        if len(sizes) == 1 or sizes[-1] % kind.elements or "_inp." in name:
            kind = F32
        if holes and not is_head:
            tensors[name] = TensorCopy(sizes, kind, hole, 0)
            assert tensor_bytes(tensors[name]) <= hole.stat().st_size
        else:
            size = math.prod(sizes) // kind.elements * kind.bytes
            tensors[name] = TensorPieces(sizes, kind, lambda size=size: random_pieces(size))
    parts = parts_by_size(tensors.values(), LARGEST_PART) if in_parts else None
    written = write_gguf(path, keys_of(shape), tensors, parts=parts)
    hole.unlink()
    return written


def random_pieces(size: int) -> Iterator[bytes]:
    rng = np.random.default_rng(size)
    while size > 0:
        yield rng.bytes(min(size, 1 << 24))
        size -= 1 << 24


def keys_of(shape: Shape) -> dict[str, NewValue]:
    prefix = shape.architecture
    keys: dict[str, NewValue] = {
        "general.architecture": prefix,
        "general.name": f"Synthetic {shape.name}",
        f"{prefix}.block_count": shape.blocks + 1,
        f"{prefix}.nextn_predict_layers": 1,
        f"{prefix}.embedding_length": shape.hidden,
        f"{prefix}.feed_forward_length": shape.feed_forward,
        f"{prefix}.attention.head_count": shape.heads,
        f"{prefix}.attention.head_count_kv": shape.kv_heads,
        f"{prefix}.attention.key_length": shape.head_width,
        f"{prefix}.attention.value_length": shape.head_width,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "qwen35",
        "tokenizer.ggml.tokens": [f"token {n}" for n in range(VOCABULARY)],
        "tokenizer.ggml.merges": [f"left{n} right{n}" for n in range(VOCABULARY - 256)],
    }
    if shape.experts:
        keys[f"{prefix}.expert_count"] = shape.experts
    return keys


def run_tool(*arguments: object) -> tuple[float, float, float]:
    """Seconds of the tool, seconds of the whole process, and peak MiB of memory."""
    start = time.perf_counter()
    command = [sys.executable, "-c", CHILD, *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        output = process.stdout.read()
    if process.returncode:
        raise SystemExit(f"{command} ended with status {process.returncode}")
    seconds, peak = output.split()
    return float(seconds), time.perf_counter() - start, int(peak) / 1024


def run_cp(source: Path, target: Path) -> tuple[float, float]:
    """Seconds of `cp`, and of `cp` and `sync` of the copy."""
    start = time.perf_counter()
    subprocess.run(["cp", str(source), str(target)], check=True)
    copied = time.perf_counter() - start
    subprocess.run(["sync", str(target)], check=True)
    return copied, time.perf_counter() - start


def measure(
    tool: str, inputs: list[Path], output: Path, reference: Path, rounds: int
) -> dict[str, Any]:
    """Run a tool and `cp` of the bytes that it writes, in turns."""
    times: dict[str, list[float]] = {"tool": [], "process": [], "cp": [], "cp_sync": []}
    peak = 0.0
    copy = output.with_suffix(".copy")
    written: list[Path] = []
    for turn in range(rounds + 1):
        for path in [*written, copy]:
            path.unlink(missing_ok=True)
        os.sync()
        seconds, process, memory = run_tool(tool, *inputs, output)
        os.sync()
        copied, synced = run_cp(reference, copy)
        written = sorted(output.parent.glob(f"{output.stem}*.gguf"))
        if turn:  # the first round warms the caches
            for name, value in zip(times, (seconds, process, copied, synced), strict=True):
                times[name].append(value)
        peak = max(peak, memory)
    median = {name: statistics.median(values) for name, values in times.items()}
    size = sum(path.stat().st_size for path in written)
    stored = sum(path.stat().st_blocks * 512 for path in written)
    for path in [*written, copy]:
        path.unlink(missing_ok=True)
    result = {
        "input_bytes": sum(path.stat().st_size for path in inputs[0].parent.glob("model*.gguf")),
        "output_bytes": size,
        "stored_output_bytes": stored,
        "reference_bytes": reference.stat().st_size,
        "peak_mib": round(peak, 1),
        **{f"{name}_seconds": round(value, 3) for name, value in median.items()},
        "speed_of_cp": round(median["cp"] / median["tool"], 3),
        "fastest_speed_of_cp": round(min(times["cp"]) / min(times["tool"]), 3),
        "speed_of_cp_with_sync": round(median["cp_sync"] / median["tool"], 3),
    }
    print(
        f"  {tool}: {size / 1e9:.3f} GB ({stored / 1e9:.3f} GB stored), {peak:.0f} MiB, "
        f"{median['tool']:.2f} s; cp {median['cp']:.2f} s, with sync {median['cp_sync']:.2f} s; "
        f"{result['speed_of_cp_with_sync']:.0%} of cp and sync, {result['speed_of_cp']:.0%} of cp, "
        f"{result['fastest_speed_of_cp']:.0%} by the fastest rounds"
    )
    return result


def measure_model(
    folder: Path, shape: Shape, kind: BlockType, rounds: int, **options: bool
) -> dict[str, Any]:
    """Extract the head of a model, take it out, put it in again."""
    folder.mkdir()
    model, *others = write_model(folder / "model.gguf", shape, kind, **options)
    size = sum(path.stat().st_size for path in [model, *others])
    print(f"{shape.name}, trunk in {kind.name}: {size / 1e9:.1f} GB in {1 + len(others)} file(s)")
    head, plain, again = (folder / f"{name}.gguf" for name in ("head", "plain", "again"))
    run_tool("extract", model, head)
    run_tool("detach", model, plain)
    first = part_paths(plain, 1 + len(others))[0] if others else plain
    reference = head if options.get("holes", True) else model
    results = {
        "extract": measure("extract", [model], folder / "out.gguf", head, rounds),
        "attach": measure("attach", [first, head], folder / "out.gguf", reference, rounds),
    }
    run_tool("attach", first, head, again)
    run_tool("extract", part_paths(again, 1 + len(others))[0] if others else again, folder / "h2")
    same = subprocess.run(["cmp", str(head), str(folder / "h2")], check=False).returncode == 0
    print(f"  extracted, attached and extracted again: {'the same' if same else 'ANOTHER'} file")
    shutil.rmtree(folder)
    return {"files": 1 + len(others), "bytes": size, "same_head": same, **results}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where temporary files go")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = Path(name)
        if shutil.disk_usage(folder).free < LEAST_FREE:
            sys.exit(f"{folder}: needs {LEAST_FREE / 1e9:.0f} GB of free space")
        rounds = arguments.rounds
        results = {
            "35B-A3B": measure_model(folder / "a", QWEN_35B, Q8_0, rounds),
            "27B": measure_model(folder / "b", QWEN_27B, Q8_0, rounds),
            "27B F32 in parts": measure_model(folder / "c", QWEN_27B, F32, rounds, in_parts=True),
            "no holes": measure_model(folder / "d", SMALL, Q8_0, rounds, holes=False),
        }
    print(machine.write_result("head_files", {"rounds": rounds, "models": results}))


if __name__ == "__main__":
    main()
