"""The unit for systemd and the image in docs/: what they start exists, and finds its place."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import click
import pytest

from nextn.cli import application
from nextn.files.sources.cache import CACHE_VARIABLE, models_directory
from nextn.files.sources.hub_cache import hub_directory
from nextn.files.sources.registry import MODELS

DOCS = Path(__file__).parents[2] / "docs"
UNIT = DOCS / "nextn.service"
HUB_VARIABLES = ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE")


def started(command: list[str]) -> click.Context:
    """What the command line makes of a command; unknown options and bad values are errors."""
    program, verb, *arguments = command
    assert Path(program).name == "nextn"
    with click.Context(application) as parent:
        found = application.get_command(parent, verb)
        assert found is not None
        return found.make_context(verb, arguments, parent)


def unit_settings(**places: str) -> dict[str, list[str]]:
    """The settings of the unit by name, with %C and so on replaced."""
    settings: dict[str, list[str]] = {}
    for line in UNIT.read_text(encoding="utf-8").splitlines():
        name, assigned, value = line.partition("=")
        if assigned and not line.startswith("#"):
            value = re.sub("%(.)", lambda match: places[match[1]], value)
            settings.setdefault(name, []).append(value)
    return settings


def image_instructions() -> dict[str, str]:
    """What the instructions of the image say; each is there once."""
    text = (DOCS / "Containerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    found = [(name, rest.strip()) for name, _, rest in (line.partition(" ") for line in lines)]
    assert len(dict(found)) == len(found)
    return dict(found)


def test_the_unit_starts_a_server_with_options_that_exist() -> None:
    (command,) = unit_settings(h="/home/a", C="/c", E="/e")["ExecStart"]
    options = started(shlex.split(command)).params
    assert set(options["names"]) <= MODELS.keys()
    assert options["log_style"] == "json"


@pytest.fixture
def no_places(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing in the environment says where models are."""
    for name in (CACHE_VARIABLE, "XDG_CACHE_HOME", "HF_HOME", *HUB_VARIABLES):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("no_places")
def test_a_server_in_the_unit_may_write_where_it_keeps_models(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = unit_settings(h="/home/a", C="/some/cache", E="/e")
    assert settings["ProtectSystem"] == ["strict"]
    for assignment in shlex.split(" ".join(settings["Environment"])):
        monkeypatch.setenv(*assignment.split("=", 1))
    # systemd makes these folders, and lets the service write into them, whoever its user is.
    writable = [Path("/some/cache") / name for name in settings["CacheDirectory"][0].split()]
    for directory in (models_directory(), hub_directory()):
        assert any(map(directory.is_relative_to, writable)), directory


@pytest.mark.usefixtures("no_places")
def test_a_users_unit_shares_the_hubs_cache_with_other_programs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shared = hub_directory()
    caches = str(Path("~/.cache").expanduser())  # what %C is for a user's manager
    settings = unit_settings(h="/home/a", C=caches, E="/e")
    for assignment in shlex.split(" ".join(settings["Environment"])):
        monkeypatch.setenv(*assignment.split("=", 1))
    assert hub_directory() == shared


def test_systemd_finds_nothing_wrong_with_the_unit(tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("needs systemd-analyze")
    program = tmp_path / ".local/bin/nextn"
    program.parent.mkdir(parents=True)
    program.touch(0o755)
    environment = {**os.environ, "HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path)}
    checked = subprocess.run(
        [analyze, "--user", "verify", str(UNIT)],
        env=environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (checked.returncode, checked.stderr) == (0, "")


def test_the_image_starts_a_server_that_its_health_check_asks() -> None:
    instructions = image_instructions()
    command = json.loads(instructions["ENTRYPOINT"]) + json.loads(instructions["CMD"])
    options = started(command).params
    assert set(options["names"]) <= MODELS.keys()
    assert options["host"] == "0.0.0.0"
    assert instructions["EXPOSE"] == str(options["port"])
    *_, check = json.loads(instructions["HEALTHCHECK"].partition("CMD")[2])
    compile(check, "HEALTHCHECK", "exec")
    assert f"http://127.0.0.1:{options['port']}/health" in check


@pytest.mark.usefixtures("no_places")
def test_the_image_keeps_models_in_its_volume(monkeypatch: pytest.MonkeyPatch) -> None:
    instructions = image_instructions()
    volume = instructions["VOLUME"]
    for assignment in shlex.split(instructions["ENV"]):
        monkeypatch.setenv(*assignment.split("=", 1))
    for directory in (models_directory(), hub_directory()):
        assert directory.is_relative_to(volume)
    assert f"install -d -o {instructions['USER']} {volume}" in instructions["RUN"]
    example = (DOCS / "serve.md").read_text(encoding="utf-8")
    assert f"-v nextn-models:{volume} nextn" in example
