"""Headers of models that stay on the hub: what is read, and how little is fetched for it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from nextn.cli import application
from nextn.errors import FileFormatError, SourceError
from nextn.files import open_checkpoint
from nextn.files.gguf import HeaderContinuesError, read_header
from nextn.files.sources.download import UnusableAddressError, read_range
from nextn.files.sources.hub_cache import HubName, parse_hub_name
from nextn.files.sources.progress import no_progress
from nextn.files.sources.remote import open_remote
from tests.files.sources.hub_server import Hub
from tests.files.sources.servers import Site, serve
from tests.support.tiny_gguf import TinyHead, write_tiny_head, write_tiny_model

REPOSITORY = "somebody/tiny-GGUF"
DRAFTED = range(0, 320, 2)
# Larger than what is fetched at first.
BIG: dict[str, Any] = {"hidden": 256, "heads": 4, "head_dim": 64, "ffn": 2048, "layers": 3}


@pytest.fixture
def model(hub: Hub, tmp_path: Path) -> Path:
    """A model with a head, on the hub and in a file."""
    path = tmp_path / "here" / "model-Q8_0.gguf"
    path.parent.mkdir()
    head = TinyHead(draft_vocab=DRAFTED, own_output=True)
    write_tiny_model(path, "llama", head=head, types={"default": "F32"}, **BIG)
    hub.files[REPOSITORY] = {path.name: path.read_bytes()}
    return path


def show(*arguments: object) -> Result:
    return CliRunner().invoke(application, ["show", *map(str, arguments)])


def test_a_remote_model_is_shown_like_a_local_one(hub: Hub, model: Path) -> None:
    local, remote = (
        json.loads(show(name, "--json").stdout) for name in (model, f"hf:{REPOSITORY}/{model.name}")
    )
    assert remote["path"] == f"hf:{REPOSITORY}/{model.name}"
    for key in ("name", "path", "fetched_bytes", "published_head", "memory"):
        for record in (local, remote):
            record.pop(key, None)
    for record in (local, remote):
        record["used_head"].pop("path")
        record["head_detail"].pop("path")
    assert remote == local
    assert remote["head_detail"]["draft_vocabulary"] == len(DRAFTED)
    size = model.stat().st_size
    assert size > 4 << 20
    assert hub.storage.sent_bytes < size / 3


def test_nothing_is_kept_and_no_weight_is_fetched(hub: Hub, model: Path, home: Path) -> None:
    assert show(f"hf:{REPOSITORY}:Q8_0").exit_code == 0
    assert not (home / ".cache/huggingface/hub").exists()
    data_starts = open_checkpoint(model).tensors["token_embd.weight"].offset
    for wanted in hub.storage.requested_ranges:
        first, _, last = wanted.removeprefix("bytes=").partition("-")
        # The beginning, and the list of tokens that the head drafts.
        assert int(first) < data_starts or int(last) - int(first) + 1 == 4 * len(DRAFTED)


def test_a_header_is_fetched_on_as_long_as_it_goes_on(
    hub: Hub, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nextn.files.sources.remote._FIRST_BYTES", 100)
    found = open_remote(HubName(REPOSITORY, "main", ""), no_progress)
    local = open_checkpoint(model)
    assert list(found.checkpoint.tensors) == list(local.tensors)
    assert found.checkpoint.metadata.keys() == local.metadata.keys()
    assert len(hub.storage.requested_ranges) > 3
    assert found.fetched_bytes < 4 * local.tensors["token_embd.weight"].offset
    name = "blk.3.nextn.draft_vocab"
    assert found.checkpoint.tensors[name].integers().tolist() == list(DRAFTED)
    large = found.checkpoint.tensors["blk.0.ffn_up.weight"]
    assert large.shape == local.tensors[large.name].shape
    monkeypatch.setattr("nextn.files.sources.remote._MOST_TENSOR_BYTES", 1000)
    with pytest.raises(SourceError, match="is not on this machine"):
        large.decode()


def test_any_beginning_of_a_file_gives_its_header_or_says_that_it_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    write_tiny_model(path, "llama", head=TinyHead())
    whole = path.read_bytes()
    expected = read_header(path, memoryview(whole))
    end = min(entry.offset for entry in expected.tensors.values())
    whole_headers, needed = 0, {}
    for length in (*range(0, 200), *range(200, end + 40, 37)):
        beginning = memoryview(whole[:length])
        try:
            found = read_header(path, beginning, size=len(whole))
        except HeaderContinuesError as error:
            needed[length] = error.needed
        else:
            assert found.tensors == expected.tensors
            whole_headers += 1
    assert whole_headers
    assert needed
    assert all(length < more <= end for length, more in needed.items())
    # What the file cannot hold is wrong, however much of it is there.
    with pytest.raises(FileFormatError, match="truncated or corrupt"):
        read_header(path, memoryview(whole[:end]), size=end + 100)


def test_all_parts_of_a_split_model_are_read(hub: Hub, tmp_path: Path) -> None:
    write_tiny_model(tmp_path / "split.gguf", "llama", tensors_per_part=8)
    parts = sorted(tmp_path.glob("split-*.gguf"))
    assert len(parts) > 1
    hub.files[REPOSITORY] = {part.name: part.read_bytes() for part in parts}
    found = open_remote(HubName(REPOSITORY, "main", ""), no_progress)
    local = open_checkpoint(parts[0])
    assert found.checkpoint.tensors.keys() == local.tensors.keys()
    assert found.checkpoint.file_bytes == local.file_bytes


def test_a_head_beside_a_model_is_named_and_can_be_shown(hub: Hub, tmp_path: Path) -> None:
    write_tiny_model(tmp_path / "tiny-Q8_0.gguf", "llama")
    write_tiny_head(tmp_path / "mtp-tiny-Q8_0.gguf", "llama", TinyHead())
    hub.files[REPOSITORY] = {path.name: path.read_bytes() for path in tmp_path.glob("*.gguf")}
    page = show(f"hf:{REPOSITORY}").stdout
    assert "head beside    mtp-tiny-Q8_0.gguf" in page
    shown = json.loads(show(f"hf:{REPOSITORY}/mtp-tiny-Q8_0.gguf", "--json").stdout)
    assert shown["head_detail"]["blocks"] == [2]
    assert {one["name"] for one in shown["head_detail"]["tensors"]} >= {
        "blk.2.nextn.eh_proj.weight"
    }


def test_a_model_in_the_cache_is_not_asked_for(hub: Hub, model: Path) -> None:
    from nextn.files.sources import resolve

    resolve(f"hf:{REPOSITORY}:Q8_0")
    hub.asked.clear()
    assert show(f"hf:{REPOSITORY}:Q8_0").exit_code == 0
    assert not hub.asked


def test_offline_nothing_is_fetched(hub: Hub, model: Path) -> None:
    result = show(f"hf:{REPOSITORY}:Q8_0", "--offline")
    assert result.exit_code == 2
    assert "downloads are off" in result.stderr
    assert not hub.asked


def test_what_is_no_model_is_one_error(hub: Hub) -> None:
    hub.files[REPOSITORY] = {"bad-Q8_0.gguf": b"GGUF" + bytes(100)}
    result = show(f"hf:{REPOSITORY}")
    assert result.exit_code == 2
    assert f"hf:{REPOSITORY}/bad-Q8_0.gguf: version" in result.stderr
    result = show("hf:nobody/nothing")
    assert result.exit_code == 2
    assert "nobody/nothing" in result.stderr


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("hf:u/r/model.gguf", HubName("u/r", "main", "model.gguf")),
        ("hf:u/r/sub/model-Q8_0.gguf", HubName("u/r", "main", "sub/model-Q8_0.gguf")),
        ("u/r/model.gguf", None),
    ],
)
def test_a_file_may_follow_a_slash(name: str, expected: HubName | None) -> None:
    assert parse_hub_name(name) == expected


def test_a_range_that_breaks_off_is_read_on() -> None:
    content = np.random.default_rng(0).bytes(5000)
    with serve(Site(files={"/file": content})) as site:
        site.break_after = [700, None]
        site.answers = [503]
        waited: list[float] = []
        found = read_range(f"{site.url}/file", 1000, 2000, pause=waited.append)
        assert found == content[1000:3000]
        assert site.requested_ranges == ["bytes=1000-2999", "bytes=1000-2999", "bytes=1700-2999"]
        assert len(waited) == 2
        with pytest.raises(UnusableAddressError, match="404"):
            read_range(f"{site.url}/none", 0, 10, pause=waited.append)
        site.shift_ranges_by = 5
        with pytest.raises(UnusableAddressError, match="part of a file"):
            read_range(f"{site.url}/file", 1000, 2000, pause=waited.append)


def test_without_ranges_only_the_beginning_can_be_read() -> None:
    content = bytes(range(256)) * 20
    with serve(Site(files={"/file": content})) as site:
        site.knows_ranges = False
        assert read_range(f"{site.url}/file", 0, 300) == content[:300]
        with pytest.raises(UnusableAddressError, match="part of a file"):
            read_range(f"{site.url}/file", 10, 300)
