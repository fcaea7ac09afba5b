"""Writes the figures of benchmarks/results into README.md and docs/performance.md, and the plot.

Each table stands between a line <!-- NAME --> and a line <!-- end of NAME -->; what is between them
is replaced, if there are results for it. So no figure on a page can differ from the measured one.

    python benchmarks/report.py
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")
from matplotlib import pyplot

PROJECT = Path(__file__).parent.parent
RESULTS = PROJECT / "benchmarks/results"
PAGES = (PROJECT / "README.md", PROJECT / "docs/performance.md")
PLOT = PROJECT / "docs/steps.svg"
MODELS = {"smollm2": "SmolLM2 135M, Q4_1", "gemma3-270m": "Gemma 3 270M, Q4_K_M"}
RANDOM_MODELS = {
    f"random-1.6b-{name.lower()}": f"random weights, 1.6 B, {name}"
    for name in ("Q4_0", "Q4_K", "Q8_0")
}
PEERS = ("llama.cpp", "ik_llama.cpp")
PACKAGES = {"llama.cpp": "llama-cpp-python", "ik_llama.cpp": "ik-llama-cpp-python"}
COLORS = {"llama.cpp": "#8a8a8a", "ik_llama.cpp": "#b0761a", "nextn": "#12805c"}
MISSING = "–"
Row = list[str]


def load(name: str) -> dict[str, Any]:
    """A result file."""
    content: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text())
    return content


def table(head: Row, rows: list[Row]) -> str:
    """A Markdown table; all columns but the first are numbers."""
    rule = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, rule, *rows])


def measured_models() -> dict[str, str]:
    """Models whose steps were measured, and their titles."""
    models = MODELS | RANDOM_MODELS
    return {name: title for name, title in models.items() if _exists(f"steps-{name}")}


def least_ms(case: dict[str, Any], threads: int) -> float | None:
    """The least time of a case by the roofline of this machine; None if it was not measured."""
    if not _exists("roofline"):
        return None
    machine = load("roofline")["threads"].get(str(threads))
    if machine is None:
        return None
    reading = case["bytes"] / machine["memory_bytes_per_second"]
    return 1e3 * max(reading, case["products"] / machine["products_per_second"])


def ratio(case: dict[str, Any], peer: str) -> str:
    """How many times faster nextn is."""
    engines = case["engines"]
    if peer not in engines:
        return MISSING
    return f"{engines[peer]['median_ms'] / engines['nextn']['median_ms']:.2f} x"


def steps(model: str) -> str:
    """Every case against the peers that took part, and against the machine."""
    result = load(f"steps-{model}")
    threads = result["settings"]["threads"]
    cases = result["cases"]
    peers = [peer for peer in PEERS if any(peer in case["engines"] for case in cases)]
    one = next((c["engines"]["nextn"]["median_ms"] for c in cases if c["case"] == "rows 1"), None)
    has_limits = least_ms(cases[0], threads) is not None
    rows = []
    for case in cases:
        engines = case["engines"]
        ours = engines["nextn"]["median_ms"]
        row = [case["case"].removeprefix("rows "), f"{ours:.1f}"]
        for peer in peers:
            row.append(f"{engines[peer]['median_ms']:.1f}" if peer in engines else MISSING)
            row.append(ratio(case, peer))
        row.append(MISSING if one is None else f"{ours / one:.2f}")
        if has_limits:
            least = least_ms(case, threads)
            row.append(MISSING if least is None else f"{least / ours:.0%}")
        rows.append(row)
    head = ["rows", "nextn, ms"]
    for peer in peers:
        head += [f"{peer}, ms", "faster by"]
    head.append("in steps of 1 row")
    return table([*head, "of the limit"] if has_limits else head, rows)


def roofline() -> str:
    """What the machine can do."""
    rows = [
        [
            threads,
            f"{figures['memory_bytes_per_second'] / 1e9:.1f} GB/s",
            f"{figures['cache_bytes_per_second'] / 1e9:.1f} GB/s",
            f"{figures['products_per_second'] / 1e9:.0f} billion/s",
        ]
        for threads, figures in load("roofline")["threads"].items()
    ]
    return table(["threads", "memory", "last cache", "8-bit products"], rows)


def drafts() -> str:
    """What the suffix drafter brings and costs."""
    rows = [
        [
            name,
            f"{row['plain_tokens_per_second']:.0f}",
            f"{row['auto_tokens_per_second']:.0f}",
            f"{row['ratio']:.2f} x",
            f"{row['tokens_per_step']:.2f}",
            f"{100 * row['acceptance']:.0f} %",
        ]
        for name, row in load("suffix-smollm2")["results"].items()
    ]
    head = ["text", "plain, tokens/s", "drafts, tokens/s", "faster by"]
    return table([*head, "tokens per step", "accepted"], rows)


def agreement() -> str:
    """Distance from exact arithmetic."""
    rows = []
    for model, title in MODELS.items():
        for engine, row in load(f"agreement-{model}")["results"].items():
            rows.append(
                [
                    f"{title}, {engine}",
                    f"{row['mean_divergence']:.5f}",
                    f"{row['median_divergence']:.5f}",
                    f"{100 * row['same_top']:.2f} %",
                ]
            )
    return table(["model", "mean divergence", "median", "same most likely token"], rows)


def same_text() -> str:
    """Differences in all ways of writing the same texts."""
    rows = []
    for path in sorted(RESULTS.glob("same-text-*.json")):
        result = load(path.stem)
        settings = result["settings"]
        model = settings["model"]
        title = MODELS.get(model, Path(model).stem)
        cache = ", Q8_0 cache" if settings.get("cache_type") == "q8_0" else ""
        differences = result["differences"]
        rows.append(
            [
                title + cache,
                str(len(differences)),
                f"{result['settings']['tokens_compared_per_way'] * len(differences):,}",
                str(sum(row["tokens"] for row in differences)),
                str(sum(row["logprobs"] for row in differences)),
            ]
        )
    head = ["model", "ways", "tokens compared", "different tokens", "different log probabilities"]
    return table(head, rows)


def heads(model: str) -> str:
    """Speeds of each category with the head, greedy and sampled, against those without."""
    rows = []
    runs = {"greedy": load(f"heads-{model}")}
    if _exists(f"heads-{model}-sampled"):
        sampled = load(f"heads-{model}-sampled")
        runs[f"T={sampled['settings']['temp']}"] = sampled
    ways = ("head", "head, drafts off", "sabotaged head", "head of another model")
    for run, result in runs.items():
        for category, counted in result["texts"].items():
            speeds = {name: each["tokens"] / each["seconds"] for name, each in counted.items()}
            plain = speeds["plain"]
            llama = speeds.get("llama.cpp")
            rows.append(
                [
                    f"{category}, {run}",
                    f"{plain:.0f}",
                    f"{speeds['head']:.0f}",
                    *(f"{speeds[name] / plain:.2f} x" for name in ways),
                    MISSING if llama is None else f"{speeds['head'] / llama:.2f} x",
                ]
            )
    head = ["texts", "plain, tokens/s", "head, tokens/s", *ways, "head against llama.cpp"]
    return table(head, rows)


def kernels(family: str) -> str:
    """The kernels of a family: time, share of the machine's limit, instructions."""
    counted = {
        (row["family"], row["kernel"], row["rows"]): row["instructions"]
        for row in (load("instructions")["kernels"] if _exists("instructions") else [])
    }
    by_kernel: dict[str, list[dict[str, Any]]] = {}
    for row in load("kernels")["kernels"]:
        if row["family"] == family:
            by_kernel.setdefault(row["kernel"], []).append(row)
    rows = []
    for name, timed in by_kernel.items():
        row = [name]
        for case in timed:
            row.append(f"{case['median_ms']:.3g}")
            row.append(f"{case['floor_ms'] / case['median_ms']:.0%} ({case['limit']})")
            # Operations on rows are counted with one row.
            number = counted.get((family, name, 1 if family == "rows" else case["rows"]))
            row.append(MISSING if number is None else f"{number:.0f}")
        rows.append(row)
    counts = [case["rows"] for case in next(iter(by_kernel.values()))]
    titles = [f"{count} row{'' if count == 1 else 's'}, ms" for count in counts]
    columns = (text for title in titles for text in (title, "of limit", "instructions"))
    return table(["kernel", *columns], rows)


def served(model: str) -> str:
    """Chats at a time: total speed without drafts, with them, and of the peer."""
    results = load(f"serve-{model}")["results"]
    sides: dict[int, dict[str, dict[str, Any]]] = {}
    for result in results:
        sides.setdefault(result["concurrency"], {})[result["side"]] = result
    rows: list[Row] = []
    for chats, side in sides.items():
        off, auto, peer = (
            side[name]["tokens_per_second"] for name in ("mtp off", "mtp auto", "peer")
        )
        first = side["mtp auto"]["ttft"]["median"] * 1000
        rows.append(
            (str(chats), f"{off:.0f}", f"{auto:.0f}", f"{auto / off:.2f} x", f"{peer:.0f}",
             f"{auto / peer:.1f} x", f"{first:.0f} ms")
        )  # fmt: skip
    head = ("chats at a time", "without drafts, tokens/s", "with", "faster by", "peer, tokens/s",
            "faster by", "first token")  # fmt: skip
    return table(head, rows)


def scripted(model: str) -> str:
    """Drafts of known quality: automatic depth against fixed ones, in units of plain decoding."""
    results = load(f"scripted-{model}")["results"]
    depths = list(next(iter(results.values()))["speeds"])
    rows: list[Row] = [
        (name, *(f"{result['speeds'][depth]:.2f}" for depth in depths),
         f"{result['auto_of_best']:.2f}", f"{result['auto_of_best_typical']:.2f}")
        for name, result in results.items()
    ]  # fmt: skip
    head = ("chance of each token", *depths, "auto / best", "at typical step times")
    return table(head, rows)


def _exists(name: str) -> bool:
    return (RESULTS / f"{name}.json").exists()


def quantised_errors() -> str:
    """Root mean square errors of nextn's quantisers against those of others."""
    results = {model: load(f"quantise-{model}") for model in _quantised()}
    like_trained = next(iter(results.values()))["errors"]["like trained weights"]
    rows = []
    for name, row in like_trained.items():
        found = [f"{100 * row['relative_error']:.2f} %"]
        tables = [like_trained, *(each["errors"]["of the model"] for each in results.values())]
        for table_of in tables:
            found.append(f"{table_of[name]['to_ggml']:.3f}")
            found.append(f"{table_of[name]['to_ggml_with_importance']:.3f}")
        found.append(f"{row['to_gguf']:.3f}" if "to_gguf" in row else MISSING)
        rows.append([name, *found])
    head = ["format", "error", "like trained, to ggml", "weighted"]
    for model in results:
        head += [f"{MODELS[model].split(',')[0]}, to ggml", "weighted"]
    return table([*head, "to `gguf`"], rows)


def quantised_divergence() -> str:
    """Divergence of quantised files from their source, of nextn's and llama.cpp's."""
    rows = []
    for model in _quantised():
        result = load(f"quantise-{model}")
        for part, with_importance in (
            ("divergence", ""),
            ("divergence_with_importance", ", importance"),
        ):
            for name, row in result.get(part, {}).items():
                title = MODELS[model].split(",")[0]
                ours, theirs = row["nextn"], row["llama.cpp"]
                rows.append(
                    [
                        f"{title}, {name}{with_importance}",
                        f"{ours['divergence']:.5f}",
                        f"{theirs['divergence']:.5f}",
                        f"{ours['divergence'] / theirs['divergence']:.3f}",
                        f"{100 * ours['same_top']:.1f} %",
                        f"{100 * theirs['same_top']:.1f} %",
                    ]
                )
    head = ["model and type", "nextn", "llama.cpp", "ratio", "same top, nextn"]
    return table([*head, "same top, llama.cpp"], rows)


def quantised_seconds() -> str:
    """Time of whole files, of nextn and llama.cpp."""
    results = {model: load(f"quantise-{model}") for model in _quantised()}
    results = {model: result for model, result in results.items() if "seconds" in result}
    rows = []
    for name in next(iter(results.values()))["seconds"]:
        row = [name]
        for result in results.values():
            times = result["seconds"][name]
            row += [f"{times['nextn']:.2f}", f"{times['llama.cpp']:.2f}", f"{times['ratio']:.2f} x"]
        rows.append(row)
    head = ["type"]
    for model in results:
        head += [f"{MODELS[model].split(',')[0]}: nextn, s", "llama.cpp, s", "faster by"]
    return table(head, rows)


def _quantised() -> list[str]:
    return [model for model in MODELS if _exists(f"quantise-{model}")]


def head_files() -> str:
    """Memory and time of moving heads between large files."""
    rows = []
    for model, result in load("head_files")["models"].items():
        for tool in ("extract", "attach"):
            row = result[tool]
            fastest = row.get("fastest_speed_of_cp")
            rows.append(
                [
                    f"{model}, {tool}",
                    f"{row['input_bytes'] / 1e9:.1f} GB",
                    f"{row['stored_output_bytes'] / 1e6:.0f} MB",
                    f"{row['peak_mib']:.0f} MiB",
                    f"{row['tool_seconds']:.2f} s",
                    f"{100 * row['speed_of_cp']:.0f} %",
                    f"{100 * row['speed_of_cp_with_sync']:.0f} %",
                    MISSING if fastest is None else f"{100 * fastest:.0f} %",
                ]
            )
    head = ["model and tool", "read from", "stored", "peak memory", "time", "of `cp`"]
    return table([*head, "of `cp` and `sync`", "fastest rounds, of `cp`"], rows)


def tokenizer() -> str:
    """Differences from llama.cpp's tokenizer."""
    rows = []
    for model, title in MODELS.items():
        result = load(f"tokenizer-{model}")
        counts = [str(count) for count in result["differences"].values()]
        rows.append([title, f"{result['settings']['count']:,}", *counts])
    head = ["model", "texts", "differing as plain text", "with special tokens"]
    return table([*head, "differing bytes of tokens", "differing end tokens"], rows)


def start() -> str:
    """Time and memory of a whole process."""
    rows = []
    for model, title in MODELS.items():
        result = load(f"start-{model}")
        rows.append(
            [
                title,
                f"{result['seconds_to_first_token']:.2f} s",
                f"{result['file_bytes'] / 1e6:.0f} MB",
                f"{result['peak_resident_bytes'] / 1e6:.0f} MB",
            ]
        )
    return table(["model", "first token after", "file", "peak memory"], rows)


def summary() -> str:
    """The few figures of the README."""
    names = {
        "1 row": "rows 1",
        "4 rows": "rows 4",
        "8 rows": "rows 8",
        "a prompt": "prompt 512",
        "decoding at 4,096": "decoding at 4096",
        "8 sequences": "8 sequences",
    }
    measured = {model: load(f"steps-{model}")["cases"] for model in measured_models()}
    everywhere = {case["case"] for cases in measured.values() for case in cases}
    names = {title: name for title, name in names.items() if name in everywhere}
    rows = []
    for model, title in measured_models().items():
        by_name = {case["case"]: case for case in measured[model]}
        for peer in PEERS:
            if any(peer in case["engines"] for case in by_name.values()):
                ratios = (
                    ratio(by_name[name], peer) if name in by_name else MISSING
                    for name in names.values()
                )
                rows.append([f"{title}; {peer}", *ratios])
    return table(["nextn against", *names], rows)


def machine() -> str:
    """What was measured on."""
    result = load("steps-smollm2")
    about = result["machine"]
    parts = [
        f"{about['processor']}, {about['cores']} cores ({about['kernels']}), "
        f"{result['settings']['threads']} threads"
    ]
    for peer in PEERS:
        if any(peer in case["engines"] for case in result["cases"]):
            parts.append(f"{peer} of {PACKAGES[peer]} {about[PACKAGES[peer]]}")
    return f"{'; '.join(parts)}; {about['date']}."


def plot() -> None:
    """Time of a step by its number of rows."""
    models = measured_models()
    columns = min(len(models), 3)
    lines = -(-len(models) // columns)
    size = 4.5 * columns, 3.4 * lines
    figure, grid = pyplot.subplots(
        lines, columns, figsize=size, layout="constrained", squeeze=False
    )
    axes = grid.reshape(-1)
    for axis in axes[len(models) :]:
        axis.set_visible(False)
    for axis, (model, title) in zip(axes, models.items(), strict=False):
        cases = {
            int(case["case"].removeprefix("rows ")): case["engines"]
            for case in load(f"steps-{model}")["cases"]
            if case["case"].startswith("rows ")
        }
        for engine, color in COLORS.items():
            counts = [count for count, engines in cases.items() if engine in engines]
            if counts:
                times = [cases[count][engine]["median_ms"] for count in counts]
                axis.plot(counts, times, "o-", color=color, label=engine)
        axis.set(title=title, xlabel="rows of a step", ylim=(0, None), xticks=[1, 4, 8, 12, 16])
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(axis="y", alpha=0.3)
    axes[0].set_ylabel("ms")
    axes[0].legend(frameon=False)
    figure.savefig(PLOT, metadata={"Date": None})


def main() -> None:
    """Write the plot and the pages."""
    matplotlib.rcParams["svg.hashsalt"] = "nextn"
    plot()
    parts: dict[str, Callable[[], str]] = {
        "figures": lambda: f"{summary()}\n\n{machine()}",
        **{f"steps-{model}": partial(steps, model) for model in measured_models()},
        "drafts": drafts,
        "agreement": agreement,
        "same-text": same_text,
        "tokenizer": tokenizer,
        "start": start,
        "machine": machine,
    }
    for model in MODELS:
        if _exists(f"heads-{model}"):
            parts[f"heads-{model}"] = partial(heads, model)
    parts["served"] = partial(served, "smollm2")
    parts["scripted"] = partial(scripted, "random-1.6b-q4_0")
    if _exists("roofline"):
        parts["roofline"] = roofline
    if _quantised():
        parts["quantised-errors"] = quantised_errors
        parts["quantised-divergence"] = quantised_divergence
        parts["quantised-seconds"] = quantised_seconds
    if _exists("head_files"):
        parts["head-files"] = head_files
    if _exists("kernels"):
        for family in ("products", "attention", "rows"):
            parts[f"kernels-{family}"] = partial(kernels, family)
    for page in PAGES:
        text = page.read_text()
        for name, make in parts.items():
            begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
            pattern = re.escape(begin) + r".*?" + re.escape(end)
            if re.search(pattern, text, re.DOTALL):
                filled = f"{begin}\n{make()}\n{end}"
                text = re.sub(pattern, lambda _, filled=filled: filled, text, flags=re.DOTALL)
        page.write_text(text)
        print(page)


if __name__ == "__main__":
    main()
