"""Run one fuzz target: `python fuzz/run.py TARGET --minutes 30`.

Fresh seeds are written, the target runs under a limit of time for each input and of memory, and is
started again if an input kills it. At the end: executions, coverage, and the findings with the
files that reproduce them. The exit status is 1 if there are any.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from fuzz.seeds import MOST_INPUT_BYTES, SEEDS  # noqa: E402 (the path must be set first)

MOST_MEGABYTES = 512
MOST_SECONDS = 10
LEAST_RUN_SECONDS = 5
_PROGRESS = re.compile(r"#(\d+)\s.*cov: (\d+) ft: (\d+) corp: (\d+)")


def main() -> int:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("target", choices=SEEDS)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "fuzz", help="folder to keep")
    parser.add_argument("--replay", type=Path, help="run this input only")
    arguments = parser.parse_args()
    work = arguments.work / arguments.target
    corpus, findings = work / "corpus", work / "findings"
    for folder in (corpus, findings):
        folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", f"fuzz.target_{arguments.target}"]
    environment = {
        **os.environ,
        "NEXTN_FUZZ_FINDINGS": str(findings),
        "PYTHONHASHSEED": "0",
        # An editable install is not on the path; see instrument.py.
        "PYTHONPATH": str(ROOT / "src"),
    }
    if arguments.replay:
        replay = [*command, str(arguments.replay.resolve())]
        return subprocess.run(replay, cwd=ROOT, env=environment, check=False).returncode
    for index, seed in enumerate(SEEDS[arguments.target]()):
        corpus.joinpath(f"seed-{index}").write_bytes(seed)

    before = set(findings.iterdir())
    end = time.monotonic() + 60 * arguments.minutes
    executions = coverage = features = 0
    while (left := int(end - time.monotonic())) >= LEAST_RUN_SECONDS:
        options = [
            f"-max_total_time={left}",
            f"-timeout={MOST_SECONDS}",
            f"-rss_limit_mb={MOST_MEGABYTES}",
            f"-max_len={MOST_INPUT_BYTES}",
            f"-artifact_prefix={findings}/",
            "-report_slow_units=5",
            str(corpus),
        ]
        ran = 0
        with (
            subprocess.Popen(
                [*command, *options],
                cwd=ROOT,
                env=environment,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
            ) as process,
            (work / "log.txt").open("a") as log,
        ):
            assert process.stderr is not None
            for line in process.stderr:
                log.write(line)
                if line.startswith(("FINDING", "==", "SUMMARY")):
                    print(line, end="", flush=True)
                if progress := _PROGRESS.match(line):
                    ran = int(progress[1])
                    coverage = max(coverage, int(progress[2]))
                    features = max(features, int(progress[3]))
        executions += ran
        print(f"{ran} executions, exit status {process.returncode}", flush=True)
    found = sorted(set(findings.iterdir()) - before)
    print(
        f"{arguments.target}: {arguments.minutes:g} minutes, {executions} executions, "
        f"coverage {coverage} (features {features}), corpus {len(list(corpus.iterdir()))}, "
        f"{sum(path.suffix != '.txt' for path in found)} findings"
    )
    for path in found:
        print(f"  {path}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
