"""Quantisers against those of llama.cpp and the `gguf` package: error, divergence, and time.

The models at hand are quantised already, so the source is the model as F16: both sides get the same
file, but its weights lie on the coarse steps of their first format. The errors of single formats
are therefore measured with values like trained weights, too (Student's t with 5 degrees of
freedom). Errors are root mean squares, with importance weighted by it. Divergence is that of the
next-token distributions from those of the source in exact arithmetic, on this project's own files.
Times are of whole
files, alternating, with as many threads on both sides; nextn waits for the disk (fsync), llama.cpp
does not.

    python benchmarks/quantise.py smollm2
    python benchmarks/quantise.py gemma3-270m --parts errors seconds

Parts that were not measured keep the figures that the result file has.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gguf
import llama_cpp
import numpy as np
from numpy.typing import NDArray

from agreement import CHUNK, WINDOW, chunk_logits, log_softmax, varied_tokens
from machine import RESULTS, write_result
from nextn.backends import BLOCK_TOKENS, create_executor
from nextn.files import open_checkpoint
from nextn.files.block_encoding import ENCODED_TYPES, FLOAT_TYPES, encode, usable_importance
from nextn.files.block_formats import BlockType, decode
from nextn.files.imatrix import ImportanceMatrix, read_imatrix
from nextn.files.sources import resolve
from nextn.text.tokenizer import load_tokenizer
from nextn.tools.imatrix import make_imatrix
from nextn.tools.quantise import FILE_TYPES, Settings, quantise_file

Floats = NDArray[np.float32]

FORMATS = [name for name in ENCODED_TYPES if name not in FLOAT_TYPES]
TIMED = ("Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q5_0", "Q4_1", "Q4_0", "F16")
COMPARED = ("Q6_K", "Q5_K_M", "Q4_K_M", "IQ4_NL")
PARTS = ("errors", "divergence", "divergence_with_importance", "seconds")
SAMPLED_ROWS = 256
TEXT_TOKENS = 4000


def ggml_encode(block_type: BlockType, values: Floats, importance: Floats | None) -> Floats:
    """What the library of llama.cpp makes of values, decoded."""
    library = ctypes.CDLL(str(Path(llama_cpp.__file__).parent / "lib" / "libggml-base.so"))
    chunk = library.ggml_quantize_chunk
    chunk.argtypes = [ctypes.c_int, *[ctypes.c_void_p] * 2, *[ctypes.c_int64] * 3, ctypes.c_void_p]
    chunk.restype = ctypes.c_size_t
    rows, columns = values.shape
    out = np.empty((rows, block_type.row_bytes(columns)), np.uint8)
    weights = None if importance is None else importance.ctypes.data
    chunk(block_type.id, values.ctypes.data, out.ctypes.data, 0, rows, columns, weights)
    return decode(block_type, out)


def gguf_encode(block_type: BlockType, values: Floats) -> Floats | None:
    """What the package `gguf` makes of values, decoded; None if it cannot."""
    kind = gguf.GGMLQuantizationType(block_type.id)
    try:
        made = gguf.quants.quantize(values, kind)
    except NotImplementedError:
        return None
    return np.asarray(gguf.quants.dequantize(made, kind), np.float32)


def error(made: Floats, values: Floats, importance: Floats | None) -> float:
    """Root mean square."""
    squares = (made.astype(np.float64) - values) ** 2
    return float(np.sqrt((squares * (1 if importance is None else importance)).mean()))


def errors(values: Floats, importance: Floats) -> dict[str, dict[str, float]]:
    """Of every format: nextn's error, and its ratio to the others'."""
    found: dict[str, dict[str, float]] = {}
    for name in FORMATS:
        block_type = ENCODED_TYPES[name]
        ours = decode(block_type, encode(block_type, values))
        weighted = decode(block_type, encode(block_type, values, importance))
        own = error(ours, values, None)
        found[name] = {
            "relative_error": own / float(np.sqrt((values**2).mean())),
            "to_ggml": own / error(ggml_encode(block_type, values, None), values, None),
            "to_ggml_with_importance": error(weighted, values, importance)
            / error(ggml_encode(block_type, values, importance), values, importance),
        }
        peer = gguf_encode(block_type, values)
        if peer is not None:
            found[name]["to_gguf"] = own / error(peer, values, None)
    return found


def llama_quantize(
    source: Path, target: Path, file_type: str, threads: int, matrix: ImportanceMatrix | None = None
) -> None:
    """Quantise with llama.cpp."""
    parameters = llama_cpp.llama_model_quantize_default_params()
    parameters.ftype = FILE_TYPES[file_type].id
    parameters.nthread = threads
    kept = []
    if matrix is not None:
        array = (llama_cpp.llama_cpp.llama_model_imatrix_data * (len(matrix.entries) + 1))()
        for item, (name, entry) in zip(array, matrix.entries.items(), strict=False):
            values = np.ascontiguousarray(entry.sums / entry.counts[:, None], np.float32)
            kept.append(values)
            item.name, item.size = name.encode(), values.size
            item.data = values.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
        parameters.imatrix = array
    status = llama_cpp.llama_model_quantize(
        str(source).encode(), str(target).encode(), ctypes.byref(parameters)
    )
    if status:
        raise RuntimeError(f"llama.cpp cannot make {file_type}: status {status}")


class Divergence:
    """Mean divergence of files from a source, on some tokens."""

    def __init__(self, source: Path, tokens: list[int]) -> None:
        self._tokens = tokens
        self._expected = [log_softmax(each).astype(np.float32) for each in self._logits(source)]

    def of(self, path: Path) -> dict[str, float]:
        """Mean divergence, and how often the most likely token is the same."""
        divergence: list[float] = []
        same: list[bool] = []
        for exact, logits in zip(self._expected, self._logits(path), strict=True):
            other = log_softmax(logits)
            divergence += (np.exp(exact) * (exact - other)).sum(axis=-1).tolist()
            same += (exact.argmax(axis=-1) == other.argmax(axis=-1)).tolist()
        return {"divergence": float(np.mean(divergence)), "same_top": float(np.mean(same))}

    def _logits(self, path: Path) -> Iterator[Floats]:
        with open_checkpoint(path) as checkpoint:
            # The native executor rounds activations, which would be part of the divergence.
            executor = create_executor(
                checkpoint,
                backend="reference",
                context_length=WINDOW,
                block_count=WINDOW // BLOCK_TOKENS,
                max_rows=CHUNK,
            )
            for begin in range(0, len(self._tokens), WINDOW):
                window = self._tokens[begin : begin + WINDOW]
                for at in range(0, len(window), CHUNK):
                    yield chunk_logits(executor, window[at : at + CHUNK], at)
            executor.close()


def times(source: Path, folder: Path, threads: int, rounds: int) -> dict[str, dict[str, float]]:
    """Seconds per file type: medians of some rounds, alternating."""
    found = {}
    for name in TIMED:
        taken: dict[str, list[float]] = {"nextn": [], "llama.cpp": []}
        for _ in range(rounds):
            begin = time.perf_counter()
            llama_quantize(source, folder / "theirs.gguf", name, threads)
            middle = time.perf_counter()
            quantise_file(source, folder / "ours.gguf", Settings(name), threads=threads)
            taken["llama.cpp"].append(middle - begin)
            taken["nextn"].append(time.perf_counter() - middle)
        medians = {side: statistics.median(each) for side, each in taken.items()}
        found[name] = {**medians, "ratio": medians["llama.cpp"] / medians["nextn"]}
    return found


def sampled_rows(path: Path, matrix: ImportanceMatrix) -> tuple[Floats, Floats]:
    """Rows of a matrix that leads out of a feed-forward part, and its importance."""
    with open_checkpoint(path) as checkpoint:
        names = [name for name in checkpoint.tensors if name.endswith("ffn_down.weight")]
        name = names[len(names) // 2]
        rows = checkpoint.tensors[name].decode()[:SAMPLED_ROWS]
    mean = matrix.entries[name].mean(0)
    if mean is None or rows.shape[-1] % 256:
        raise SystemExit(f"{name} cannot serve as a sample")
    return np.ascontiguousarray(rows), usable_importance(mean)


def measure(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """All results."""
    model = resolve(arguments.model).path
    source, ours, theirs = (folder / f"{name}.gguf" for name in ("source", "ours", "theirs"))
    quantise_file(model, source, Settings("F16", allow_requantize=True))
    with open_checkpoint(model) as checkpoint:
        tokenizer = load_tokenizer(checkpoint.tokenizer)
    # The importance is measured on other tokens than the divergence.
    tokens = varied_tokens(tokenizer, arguments.tokens + TEXT_TOKENS)
    chosen = np.random.default_rng(0).permutation(len(tokens) // CHUNK)
    pieces = [tokens[n * CHUNK : (n + 1) * CHUNK] for n in chosen]
    evaluation = [t for piece in pieces[: arguments.tokens // CHUNK] for t in piece]
    text = folder / "text.txt"
    rest = [t for piece in pieces[arguments.tokens // CHUNK :] for t in piece]
    text.write_text(tokenizer.decode(rest))
    make_imatrix(source, text, folder / "imatrix.gguf", threads=arguments.threads)
    matrix = read_imatrix(folder / "imatrix.gguf")

    result: dict[str, Any] = {}
    if "errors" in arguments.parts:
        random = np.random.default_rng(0).standard_t(5, (SAMPLED_ROWS, 2048)) / 50
        uneven = usable_importance(np.random.default_rng(1).lognormal(0, 1, 2048))
        result["errors"] = {
            "like trained weights": errors(random.astype(np.float32), uneven),
            "of the model": errors(*sampled_rows(source, matrix)),
        }
    wanted = [part for part in PARTS[1:3] if part in arguments.parts]
    if wanted:
        divergence = Divergence(source, evaluation)
    for part in wanted:
        entries = matrix if part == "divergence_with_importance" else None
        result[part] = {}
        for name in arguments.types:
            imatrix = None if entries is None else entries.path
            quantise_file(source, ours, Settings(name), imatrix=imatrix)
            llama_quantize(source, theirs, name, arguments.threads, entries)
            found = {"nextn": divergence.of(ours), "llama.cpp": divergence.of(theirs)}
            result[part][name] = found
            print(part, name, {side: round(each["divergence"], 6) for side, each in found.items()})
    if "seconds" in arguments.parts:
        result["seconds"] = times(source, folder, arguments.threads, arguments.rounds)
    return result


def show(result: dict[str, Any]) -> None:
    """Print tables."""
    for title, table in result.get("errors", {}).items():
        print(f"errors, values {title}:")
        for name, row in table.items():
            print(f"  {name:7}", "  ".join(f"{key} {value:.4f}" for key, value in row.items()))
    if "seconds" in result:
        print("seconds:")
    for name, row in result.get("seconds", {}).items():
        print(f"  {name:7}", "  ".join(f"{key} {value:.3f}" for key, value in row.items()))


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", default="smollm2")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--types", nargs="+", choices=FILE_TYPES, default=list(COMPARED))
    parser.add_argument("--tokens", type=int, default=512, help="that divergence is measured on")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5, help="for times")
    parser.add_argument("--folder", type=Path, help="for files; by default a temporary one")
    arguments = parser.parse_args()
    silence = llama_cpp.llama_log_callback(lambda *_: None)
    llama_cpp.llama_log_set(silence, ctypes.c_void_p(0))
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        result = measure(arguments, Path(folder))
    show(result)
    settings = {
        "model": arguments.model,
        "tokens": arguments.tokens,
        "threads": arguments.threads,
        "rounds": arguments.rounds,
    }
    name = f"quantise-{arguments.model}"
    path = RESULTS / f"{name}.json"
    known = json.loads(path.read_text()) if path.exists() else {}
    kept = {part: known[part] for part in PARTS if part in known}
    print(write_result(name, {"settings": settings, **kept, **result}))


if __name__ == "__main__":
    main()
