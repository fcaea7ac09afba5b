from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest


@pytest.fixture
def interrupt_at_line() -> Callable[[int, Callable[[], object]], bool]:
    """Calls a function and raises KeyboardInterrupt at the n-th line of nextn's engine or cache.

    Returns whether the function got that far.
    """

    def call(line: int, function: Callable[[], object]) -> bool:
        left = line

        def trace(frame: FrameType, event: str, _: Any) -> Any:
            nonlocal left
            name = frame.f_code.co_filename
            if "nextn/engine/" not in name and "nextn/cache/" not in name:
                return None
            if event == "line":
                left -= 1
                if left == 0:
                    raise KeyboardInterrupt
            return trace

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            function()
        except KeyboardInterrupt:
            return True
        finally:
            sys.settrace(before)
        return False

    return call
