"""Ctrl-C, at a real process and at a real terminal."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.tiny_gguf import write_tiny_model

COMMAND = [sys.executable, "-m", "nextn.cli"]
TIMEOUT = 30.0
SLOW = ("--ignore-eos", "--backend", "reference", "--draft", "off")


@pytest.fixture(scope="module")
def endless(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose context takes long to fill."""
    path = tmp_path_factory.mktemp("cli") / "endless.gguf"
    write_tiny_model(path, "llama", context_length=8192)
    return path


def test_ctrl_c_ends_a_text_with_its_statistics(endless: Path) -> None:
    process = subprocess.Popen(
        [*COMMAND, "run", str(endless), "hello", *SLOW],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdout.read(1)
    process.send_signal(signal.SIGINT)
    text, said = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 130
    assert text.endswith(b"\n")
    assert re.fullmatch(rb"\d+ tokens?, .*, interrupted\n", said)


class Terminal:
    """A program at a pseudo-terminal."""

    def __init__(self, arguments: list[str], environment: dict[str, str]) -> None:
        self.shown = ""
        self._process, self._terminal = pty.fork()
        if self._process == 0:
            os.execve(sys.executable, [*COMMAND, *arguments], os.environ | environment)

    def wait_for(self, pattern: str) -> str:
        """What was shown since the last call, up to a pattern that comes last."""
        start = len(self.shown)
        end = time.monotonic() + TIMEOUT
        while time.monotonic() < end:
            ready, _, _ = select.select([self._terminal], [], [], 0.1)
            if ready:
                try:
                    self.shown += os.read(self._terminal, 4096).decode(errors="replace")
                except OSError:  # the program has ended
                    break
            if re.search(pattern, self.shown[start:]):
                return self.shown[start:]
        raise AssertionError(f"{pattern!r} did not come: {self.shown[start:]!r}")

    def type(self, text: str) -> None:
        os.write(self._terminal, text.encode())

    def status(self) -> int:
        _, status = os.waitpid(self._process, 0)
        os.close(self._terminal)
        return os.waitstatus_to_exitcode(status)


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return {"XDG_STATE_HOME": str(tmp_path), "HOME": str(tmp_path), "TERM": "dumb"}


def test_a_chat_at_a_terminal(tiny: Path, environment: dict[str, str], tmp_path: Path) -> None:
    terminal = Terminal(["run", str(tiny), "-n", "8", "-s", "1", "--ignore-eos"], environment)
    terminal.wait_for(r">>> $")
    terminal.type("hello\r")
    assert "8 tokens" in terminal.wait_for(r"tokens/s[^\n]*\n[^\n]*>>> $")
    terminal.type("/stats\r")
    assert "1 answer, 8 tokens" in terminal.wait_for(r"used[^\n]*\n[^\n]*>>> $")
    # Python's line editing loses a signal between showing the prompt and waiting for a key.
    time.sleep(0.3)
    terminal.type("\x03")
    terminal.wait_for(r"/exit ends the chat\r\n>>> $")
    terminal.type("\x04")
    assert terminal.status() == 0
    (history,) = tmp_path.rglob("chat_history")
    assert history.read_text().splitlines()[-2:] == ["hello", "/stats"]
    assert history.stat().st_mode & 0o777 == 0o600


def test_ctrl_c_at_a_terminal_ends_an_answer_but_not_the_chat(
    endless: Path, environment: dict[str, str]
) -> None:
    terminal = Terminal(["run", str(endless), "-s", "1", *SLOW], environment)
    terminal.wait_for(r">>> $")
    terminal.type("hello\r")
    terminal.wait_for(r"hello\r\n[^\n]*\w")
    terminal.type("\x03")
    assert "interrupted" in terminal.wait_for(r">>> $")
    terminal.type("/exit\r")
    assert terminal.status() == 0
