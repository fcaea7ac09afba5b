"""Writes the figures of benchmarks/results into README.md and docs/performance.md, and the plot.

Each table stands between a line <!-- NAME --> and a line <!-- end of NAME -->; what is between them
is replaced. So no figure on a page can differ from the measured one.

    python benchmarks/report.py
"""

from __future__ import annotations

import json
import re
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
Row = list[str]


def load(name: str) -> dict[str, Any]:
    """A result file."""
    content: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text())
    return content


def table(head: Row, rows: list[Row]) -> str:
    """A Markdown table; all columns but the first are numbers."""
    rule = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, rule, *rows])


def steps(model: str) -> str:
    """Every number of rows against llama.cpp."""
    measured = load(f"steps-{model}")["steps"]
    one = measured[0]["nextn_ms"]
    rows = [
        [
            step["rows"] if step["rows"].isdecimal() else f"a {step['rows']}",
            f"{step['nextn_ms']:.1f}",
            f"{step['llama_cpp_ms']:.1f}",
            f"{step['ratio']:.2f} x",
            f"{step['nextn_ms'] / one:.2f}",
        ]
        for step in measured
    ]
    return table(["rows", "nextn, ms", "llama.cpp, ms", "faster by", "in steps of 1 row"], rows)


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
    for model, title in MODELS.items():
        result = load(f"same-text-{model}")
        differences = result["differences"]
        rows.append(
            [
                title,
                str(len(differences)),
                f"{result['settings']['tokens_compared_per_way'] * len(differences):,}",
                str(sum(row["tokens"] for row in differences)),
                str(sum(row["logprobs"] for row in differences)),
            ]
        )
    head = ["model", "ways", "tokens compared", "different tokens", "different log probabilities"]
    return table(head, rows)


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
    rows = []
    for model, title in MODELS.items():
        by_rows = {step["rows"]: step["ratio"] for step in load(f"steps-{model}")["steps"]}
        rows.append(
            [title, *(f"{by_rows[count]:.2f} x" for count in ("1", "4", "8", "prompt 512"))]
        )
    return table(["nextn against llama.cpp", "1 row", "4 rows", "8 rows", "a prompt"], rows)


def machine() -> str:
    """What was measured on."""
    about = load("steps-smollm2")["machine"]
    return (
        f"{about['processor']}, {about['cores']} cores ({about['kernels']}), 2 threads; "
        f"llama.cpp of llama-cpp-python {about['llama-cpp-python']}; {about['date']}."
    )


def plot() -> None:
    """Time of a step by its number of rows."""
    figure, axes = pyplot.subplots(1, len(MODELS), figsize=(9, 3.4), layout="constrained")
    for axis, (model, title) in zip(axes, MODELS.items(), strict=True):
        measured = [step for step in load(f"steps-{model}")["steps"] if step["rows"].isdecimal()]
        counts = [int(step["rows"]) for step in measured]
        for label, key, color in (
            ("llama.cpp", "llama_cpp_ms", "#8a8a8a"),
            ("nextn", "nextn_ms", "#12805c"),
        ):
            axis.plot(counts, [step[key] for step in measured], "o-", color=color, label=label)
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
    parts = {
        "figures": lambda: f"{summary()}\n\n{machine()}",
        "steps-smollm2": lambda: steps("smollm2"),
        "steps-gemma3-270m": lambda: steps("gemma3-270m"),
        "drafts": drafts,
        "agreement": agreement,
        "same-text": same_text,
        "tokenizer": tokenizer,
        "start": start,
        "machine": machine,
    }
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
