"""The real process: how it starts, what it says, and how it stops."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.cli.conftest import RunCli

LONG: dict[str, Any] = {
    "prompt": "a",
    "stream": True,
    "temperature": 0,
    "max_tokens": 200,
    "ignore_eos": True,
}


# A random model may write an end token at any time.
THREE_TOKENS = {"max_tokens": 3, "ignore_eos": True}


class Process:
    """`nextn serve` with its log."""

    def __init__(
        self,
        *arguments: object,
        program: tuple[str, ...] = ("-m", "nextn"),
        **environment: str,
    ) -> None:
        command = [sys.executable, *program, "serve", *map(str, arguments)]
        self.process = subprocess.Popen(
            command, stderr=subprocess.PIPE, text=True, env={**os.environ, **environment}
        )
        self.lines: list[str] = []

    def wait_for(self, pattern: str) -> re.Match[str]:
        """The first line of the log that has the pattern."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line)
            found = re.search(pattern, line)
            if found:
                return found
        raise AssertionError("".join(self.lines))

    def end(self) -> int:
        assert self.process.stderr is not None
        killer = threading.Timer(120, self.process.kill)
        killer.start()
        self.lines += self.process.stderr.readlines()
        killer.cancel()
        return self.process.wait(120)


@contextmanager
def serve(tiny: Path, *arguments: object, **environment: str) -> Iterator[tuple[Process, str]]:
    """A process and where it listens."""
    process = Process(
        tiny, "--port", 0, "-t", 1, "-c", 256, "--backend", "reference", *arguments, **environment
    )
    try:
        pattern = r"(http://[^\"\s]+)" if "json" in arguments else r"ready at (\S+)"
        yield process, process.wait_for(pattern)[1]
    finally:
        if process.process.poll() is None:
            process.process.kill()
            process.process.wait()


def test_a_signal_waits_for_texts_and_a_second_one_does_not(tiny: Path) -> None:
    for signals in (1, 2):
        with serve(tiny) as (process, url):
            # What would take minutes is broken off.
            body = {**LONG, "n": 1 if signals == 1 else 64}
            with httpx.stream("POST", url + "/v1/completions", json=body, timeout=120) as answer:
                lines = answer.iter_lines()
                next(lines)
                for _ in range(signals):
                    process.process.send_signal(signal.SIGTERM)
                    process.wait_for("stopping|ending")
                try:
                    whole = [line for line in lines if line][-1] == "data: [DONE]"
                except httpx.HTTPError:
                    whole = False
            assert whole == (signals == 1)
            assert process.end() == 0
            with pytest.raises(httpx.ConnectError):
                httpx.get(url + "/health")


def test_a_killed_server_starts_again_on_the_same_port(tiny: Path) -> None:
    with serve(tiny) as (process, url):
        # Its connection is open when the process ends.
        answer = httpx.Client(base_url=url)
        assert answer.get("/health").status_code == 200
        process.process.kill()
        process.process.wait()
        with pytest.raises(httpx.HTTPError):
            answer.get("/health")
        answer.close()
    with serve(tiny, "--port", url.rpartition(":")[2]) as (_, again):
        assert again == url
        body = {"prompt": "a", **THREE_TOKENS}
        assert httpx.post(url + "/v1/completions", json=body, timeout=120).status_code == 200


_NEVER_LOADS = """
import sys, time
import nextn.model
nextn.model.load = lambda *_, **__: time.sleep(3600)
from nextn.cli import main
sys.exit(main())
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("closed", [False, True])
def test_a_second_signal_ends_a_server_whose_model_takes_for_ever_to_load(
    tiny: Path, number: signal.Signals, closed: bool
) -> None:
    process = Process(tiny, "--port", 0, program=("-c", _NEVER_LOADS))
    try:
        url = process.wait_for("listening on (.*)")[1]
        process.process.send_signal(number)
        process.wait_for("stopping")
        while closed:
            try:
                httpx.get(url + "/health")
            except httpx.HTTPError:
                break
        process.process.send_signal(number)
        assert process.end() == 1
        assert re.fullmatch(r"\S+ ending at once\n", process.lines[-1])
        assert "Traceback" not in "".join(process.lines)
    finally:
        process.process.kill()


def test_a_first_model_that_is_not_kept_is_loaded_when_asked_for(tiny: Path) -> None:
    with serve(tiny, "--keep-alive", 0) as (_, url):
        body = {"prompt": "a", **THREE_TOKENS}
        for _ in range(2):
            assert httpx.post(url + "/v1/completions", json=body, timeout=120).status_code == 200


def test_requests_are_logged_without_what_is_in_them(tiny: Path) -> None:
    with serve(tiny, "--log", "text") as (process, url):
        httpx.post(url + "/v1/completions", json={"prompt": "secret words", **THREE_TOKENS})
        httpx.get(url + "/v1/models?key=secret")
        httpx.get(url + "/health")
        process.process.send_signal(signal.SIGINT)
        assert process.end() == 0
    log = "".join(process.lines)
    assert "secret" not in log
    assert "/health" not in log
    assert re.search(r"POST /v1/completions 200 in .* wrote 3 at .* tokens/s, .*length", log)


def test_the_log_is_json_on_request(tiny: Path) -> None:
    process = Process(tiny, "--port", 0, "-t", 1, "-c", 256, "--log", "json")
    try:
        process.wait_for("listening")
        url = json.loads(process.lines[-1])["url"]
        while httpx.get(url + "/health").status_code == 503:
            pass
        httpx.post(url + "/v1/completions", json={"prompt": "a", **THREE_TOKENS})
        process.process.send_signal(signal.SIGINT)
        assert process.end() == 0
    finally:
        process.process.kill()
    records = [json.loads(line) for line in process.lines]
    (request,) = [record for record in records if record.get("path") == "/v1/completions"]
    assert request["status"] == 200
    assert request["tokens"] == 3
    assert request["finish_reason"] == "length"


def test_a_log_that_nobody_reads_stops_nobody(tiny: Path) -> None:
    with serve(tiny, "--log", "json") as (_, url), httpx.Client(base_url=url) as client:
        # Each line has the path; a pipe holds 64 KiB.
        for _ in range(700):
            assert client.get("/" + "a" * 100).status_code == 404


def test_keys_come_from_options_files_and_the_environment(tiny: Path, tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("# keys\nkey-of-file\n\n")
    with serve(tiny, "--api-key-file", file, NEXTN_API_KEY="key-of-environment") as (_, url):
        for key, status in (
            ("key-of-file", 200),
            ("key-of-environment", 200),
            ("# keys", 401),
            ("key", 401),
        ):
            headers = {"Authorization": f"Bearer {key}"}
            assert httpx.get(url + "/v1/models", headers=headers).status_code == status


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--host", "0.0.0.0"), "api-key"),
        (("--api-key", "short"), "API key"),
        (("--temp", "-1"), "temperature"),
        (("--mtp", "17"), "draft"),
        (("--host", "no.such.host.invalid", "--insecure"), "cannot listen"),
        (("--cors-origin", "x"), "origin"),
        (("--parallel", "0"), "parallel"),
    ],
)
def test_what_cannot_be_is_refused(
    cli: RunCli, tiny: Path, arguments: tuple[str, ...], message: str
) -> None:
    result = cli("serve", tiny, *arguments)
    assert result.exit_code == 2
    assert message in result.stderr


def test_a_taken_port_is_named(cli: RunCli, tiny: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = cli("serve", tiny, "--port", port)
    assert result.exit_code == 2
    assert f"port {port}" in result.stderr


def test_a_first_model_that_cannot_be_loaded_ends_the_server(cli: RunCli, tiny: Path) -> None:
    assert threading.current_thread() is threading.main_thread()
    result = cli("serve", tiny, "--port", 0, "-c", 1_000_000)
    assert result.exit_code == 2
    assert "context" in result.stderr


def test_two_models_of_one_name_are_refused(cli: RunCli, tiny: Path) -> None:
    result = cli("serve", tiny, tiny)
    assert result.exit_code == 2
    assert "two models" in result.stderr
