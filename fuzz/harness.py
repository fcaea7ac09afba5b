"""What all targets share: the oracle, and what is kept of a finding.

Only `NextnError` may escape from code that reads untrusted input. Anything else is a finding: its
input and traceback are written into the folder of findings, once for each place that raised it,
and fuzzing goes on. Inputs that kill the process (a crash, a hang, too much memory) are written
there by libFuzzer; `run.py` starts the target again.
"""

from __future__ import annotations

import hashlib
import os
import sys
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path

import atheris

from nextn.errors import NextnError

FINDINGS = "NEXTN_FUZZ_FINDINGS"
"""Environment variable with the folder of findings, which `run.py` sets."""


LONGEST_MESSAGE = 2000
"""Most characters of one clear line; the longest lists all pre-tokenizers."""


class WrongResultError(Exception):
    """A result that is wrong although nothing raised."""


def start(
    test_one_input: Callable[[bytes], None],
    mutate: Callable[[bytes, int, int], bytes],
) -> None:
    """Fuzz, with the arguments of libFuzzer from the command line.

    Args:
        test_one_input: reads one input.
        mutate: changes an input; gets it, the largest size and a seed.
    """
    folder = Path(os.environ.get(FINDINGS, "findings"))
    folder.mkdir(parents=True, exist_ok=True)
    # A warning of NumPy or Python would be shown to the user in place of a clear error.
    warnings.simplefilter("error")

    def judged(content: bytes) -> None:
        try:
            test_one_input(content)
        except NextnError as error:
            if len(str(error)) > LONGEST_MESSAGE or not str(error).isprintable():
                _keep(folder, content, error)
        except (KeyboardInterrupt, SystemExit):
            raise
        # A panic of a Rust library is no `Exception`.
        except BaseException as error:
            _keep(folder, content, error)

    atheris.Setup(sys.argv, judged, custom_mutator=mutate)
    atheris.Fuzz()


def _keep(folder: Path, content: bytes, error: BaseException) -> None:
    frames = traceback.extract_tb(error.__traceback__)
    place = [f"{frame.filename}:{frame.lineno}" for frame in frames[-3:]]
    name = hashlib.sha256(repr((type(error).__name__, place)).encode()).hexdigest()[:12]
    report = folder / f"{name}.txt"
    if report.exists():
        return
    folder.joinpath(f"{name}.input").write_bytes(content)
    report.write_text("".join(traceback.format_exception(error))[-8000:], errors="replace")
    print(f"FINDING {name}: {type(error).__name__}: {str(error)[:200]!r}", file=sys.stderr)
