"""For all tests: the real models, for those that are marked `models`; settings of Hypothesis."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from hypothesis import settings

from nextn.errors import SourceError

# A machine may be busy with something else: no test fails on time.
settings.register_profile("nextn", deadline=None)
settings.load_profile("nextn")

# A shell tells programs in the background to ignore Ctrl-C, and their children inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def smollm2_path() -> Path:
    """The default model; downloaded when it is missing."""
    from nextn.files.sources import resolve

    return resolve("smollm2").path


@pytest.fixture(scope="session")
def gemma3_path() -> Path:
    """The second model; downloaded only if NEXTN_TEST_ALL_MODELS=1 asks for it."""
    from nextn.files.sources import resolve

    try:
        return resolve("gemma3-270m", offline=os.environ.get("NEXTN_TEST_ALL_MODELS") != "1").path
    except SourceError as error:
        pytest.skip(str(error))
