"""Models of the Hugging Face hub: names, the shared cache, downloads, and what can go wrong."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import pytest

from nextn.errors import SourceError
from nextn.files.sources import pull, resolve
from nextn.files.sources.hub_cache import HubName, parse_hub_name
from tests.files.sources.hub_server import COMMIT, Hub, sha256

REPOSITORY = "ggml-org/tiny-GGUF"
MODEL = b"GGUF" + bytes(range(256)) * 40
OTHER = b"GGUF other"
NEXT_COMMIT = "f" * 40


@pytest.fixture(autouse=True)
def repository(hub: Hub) -> dict[str, bytes]:
    """The files of one repository."""
    hub.files[REPOSITORY] = {"README.md": b"#", "tiny-Q4_K_M.gguf": MODEL, "tiny-Q8_0.gguf": OTHER}
    return hub.files[REPOSITORY]


def cache(home: Path) -> Path:
    return home / ".cache/huggingface/hub/models--ggml-org--tiny-GGUF"


NAMES = {
    "hf:u/r": HubName("u/r", "main", ""),
    "u/r:Q4_K_M": HubName("u/r", "main", "Q4_K_M"),
    "hf:u/r@v1.0:UD-Q4_K_XL": HubName("u/r", "v1.0", "UD-Q4_K_XL"),
    "hf:u/r@refs/pr/1": HubName("u/r", "refs/pr/1", ""),
    "u/r:sub/model-Q8_0.gguf": HubName("u/r", "main", "sub/model-Q8_0.gguf"),
    "hf:u/r:a--b.gguf": HubName("u/r", "main", "a--b.gguf"),
    "models/mine.gguf": None,
    "u/" + "r" * 5000: HubName("u/" + "r" * 5000, "main", ""),
    "./u/r": None,
    "u/r/s": None,
    "name": None,
    "u/..": None,
    "here/it": None,
}


@pytest.mark.parametrize(("name", "expected"), NAMES.items())
def test_names_are_read(home: Path, name: str, expected: HubName | None) -> None:
    (home / "here").mkdir()
    (home / "here/it").touch()
    assert parse_hub_name(name) == expected


@pytest.mark.parametrize(
    "name", ["hf:", "hf:u", "hf:../r", "hf:u/a--b", "hf:u/r@../x", "hf:u/r:", "hf:u/r:a\n", "hf:/r"]
)
def test_broken_names_are_refused(name: str) -> None:
    with pytest.raises(SourceError, match="is not of the form hf:USER/REPO"):
        resolve(name)


def test_a_model_is_fetched_into_the_hubs_own_cache(hub: Hub, home: Path) -> None:
    source = resolve(f"{REPOSITORY}:q4_k_m")
    assert source.path == cache(home) / "snapshots" / COMMIT / "tiny-Q4_K_M.gguf"
    assert source.path.read_bytes() == MODEL
    assert source.name == f"hf:{REPOSITORY}:q4_k_m"
    assert source.head is None
    assert hub.downloads() == ["tiny-Q4_K_M.gguf"]


def test_huggingface_hub_finds_what_nextn_fetched(hub: Hub, home: Path) -> None:
    from huggingface_hub import hf_hub_download

    path = resolve(f"hf:{REPOSITORY}").path
    found = hf_hub_download(
        REPOSITORY, path.name, cache_dir=cache(home).parent, local_files_only=True
    )
    assert Path(found) == path
    assert path.resolve() == cache(home) / "blobs" / sha256(MODEL)


def test_nextn_finds_what_huggingface_hub_fetched(hub: Hub, home: Path) -> None:
    from huggingface_hub import hf_hub_download

    found = hf_hub_download(
        REPOSITORY, "tiny-Q8_0.gguf", cache_dir=cache(home).parent, endpoint=hub.url
    )
    hub.asked.clear()
    assert resolve(f"{REPOSITORY}:Q8_0").path == Path(found)
    assert hub.asked == []


def test_what_is_here_is_used_without_asking_the_hub(hub: Hub) -> None:
    path = resolve(f"hf:{REPOSITORY}:Q4_K_M").path
    hub.asked.clear()
    assert resolve(f"hf:{REPOSITORY}:Q4_K_M", offline=True).path == path
    assert resolve(f"hf:{REPOSITORY}").path == path
    assert hub.asked == []


def test_without_a_quantisation_the_hub_says_what_the_usual_one_is(hub: Hub) -> None:
    resolve(f"hf:{REPOSITORY}:Q8_0")
    assert resolve(f"hf:{REPOSITORY}").path.name == "tiny-Q4_K_M.gguf"


def test_when_the_hub_is_away_what_is_here_must_do(hub: Hub) -> None:
    path = resolve(f"hf:{REPOSITORY}:Q8_0").path
    hub.error = (503, "", "")
    assert resolve(f"hf:{REPOSITORY}").path == path
    with pytest.raises(SourceError, match="answered 503"):
        pull(f"hf:{REPOSITORY}")


def test_pull_fetches_a_newer_commit_and_keeps_equal_content(
    hub: Hub, repository: dict[str, bytes]
) -> None:
    name = f"hf:{REPOSITORY}:Q4_K_M"
    old = pull(name).path
    hub.commits[REPOSITORY] = NEXT_COMMIT
    assert pull(name).path.parent.name == NEXT_COMMIT
    assert hub.downloads() == ["tiny-Q4_K_M.gguf"]
    repository["tiny-Q4_K_M.gguf"] = OTHER
    hub.commits[REPOSITORY] = "e" * 40
    assert pull(name).path.read_bytes() == OTHER
    assert old.read_bytes() == MODEL


def test_a_revision_is_pinned(hub: Hub) -> None:
    name = f"hf:{REPOSITORY}@{COMMIT}:Q8_0"
    assert resolve(name).path.parent.name == COMMIT
    hub.commits[REPOSITORY] = NEXT_COMMIT
    assert resolve(name, offline=True).name == name
    with pytest.raises(SourceError, match="has no revision v9"):
        resolve(f"hf:{REPOSITORY}@v9:Q8_0")


def test_all_parts_of_a_split_model_are_fetched(hub: Hub, repository: dict[str, bytes]) -> None:
    parts = [f"big/big-Q6_K-0000{number}-of-00003.gguf" for number in (1, 2, 3)]
    repository.update({part: part.encode() for part in parts})
    seen: list[tuple[int, int | None]] = []
    source = resolve(
        f"hf:{REPOSITORY}:Q6_K", progress=lambda _, done, total: seen.append((done, total))
    )
    assert source.path.name == Path(parts[0]).name
    assert [source.path.with_name(Path(part).name).read_text() for part in parts] == parts
    whole = sum(map(len, parts))
    assert seen == sorted(seen)
    assert seen[-1] == (whole, whole)


def test_prediction_heads_are_fetched_beside_the_model(
    hub: Hub, repository: dict[str, bytes]
) -> None:
    repository |= {"mtp-tiny-Q8_0.gguf": b"GGUF head", "mmproj-F16.gguf": b"GGUF eyes"}
    source = resolve(f"hf:{REPOSITORY}:Q4_K_M")
    assert source.head == source.path.with_name("mtp-tiny-Q8_0.gguf")
    assert source.head.read_bytes() == b"GGUF head"
    assert resolve(f"hf:{REPOSITORY}:Q4_K_M", offline=True) == source
    assert not source.path.with_name("mmproj-F16.gguf").exists()


def test_a_broken_download_goes_on_in_another_process(hub: Hub, home: Path) -> None:
    part = cache(home) / "blobs" / f"{sha256(MODEL)}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(MODEL[:5000])
    assert resolve(f"hf:{REPOSITORY}").path.read_bytes() == MODEL
    assert hub.storage.requested_ranges == ["bytes=5000-"]
    assert not part.exists()


def test_the_token_is_shown_to_the_hub_only(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret")
    resolve(f"hf:{REPOSITORY}")
    models = [token for line, token in zip(hub.asked, hub.tokens, strict=True) if "tiny" in line]
    assert set(models) == {"Bearer secret"}
    assert hub.storage.tokens == [""]


def test_a_renamed_repository_is_found_and_shown_the_token(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret")
    hub.renamed["old/name"] = REPOSITORY
    assert resolve("old/name:Q4_K_M").path.read_bytes() == MODEL
    assert set(hub.tokens) == {"Bearer secret"}
    assert hub.storage.tokens == [""]


def test_a_file_without_a_stated_sha256_is_checked_by_its_size(
    hub: Hub, home: Path, repository: dict[str, bytes]
) -> None:
    hub.without_lfs.add("tiny-Q4_K_M.gguf")
    assert resolve(f"hf:{REPOSITORY}").path.read_bytes() == MODEL


def test_another_content_than_the_hub_states_is_removed(hub: Hub, home: Path) -> None:
    hub.stated_sha256["tiny-Q4_K_M.gguf"] = "0" * 64
    with pytest.raises(SourceError, match=r"SHA-256 of the download is not 000000.*was removed"):
        resolve(f"hf:{REPOSITORY}")
    assert list(cache(home).glob("blobs/*")) == []
    assert list(cache(home).glob("**/*.gguf")) == []


REFUSALS = {
    "gated": ((403, "GatedRepo", "Access is restricted"), "access on request.*HF_TOKEN"),
    "forbidden": ((403, "", "No"), r"refuses access \(403\).*HF_TOKEN"),
    "bad token": (
        (401, "", "Invalid credentials in Authorization header"),
        r"refuses access \(401\).*HF_TOKEN",
    ),
    "broken": ((500, "", ""), "answered 500; try again later"),
    "too busy": ((429, "", ""), "answered 429; try again later"),
    "odd": ((418, "", ""), r"answered 418 \("),
}


@pytest.mark.parametrize("only_files", [False, True])
@pytest.mark.parametrize(("error", "reason"), REFUSALS.values(), ids=REFUSALS)
def test_a_refusal_is_explained(
    hub: Hub, error: tuple[int, str, str], reason: str, only_files: bool
) -> None:
    if only_files:
        hub.file_error = error
    else:
        hub.error = error
    with pytest.raises(SourceError, match=reason) as caught:
        resolve(f"hf:{REPOSITORY}")
    assert len(str(caught.value).splitlines()) == 1


def test_no_such_repository(hub: Hub) -> None:
    with pytest.raises(SourceError, match="File name too long"):
        resolve("u/" + "r" * 5000)
    with pytest.raises(SourceError, match="neither a file here nor a repository at http"):
        resolve("nobody/nothing")


def test_a_repository_without_models(repository: dict[str, bytes]) -> None:
    repository.clear()
    repository["model.safetensors"] = b""
    with pytest.raises(SourceError, match=r"no model in a \.gguf file"):
        resolve(f"hf:{REPOSITORY}")


def test_a_quantisation_that_is_not_there() -> None:
    with pytest.raises(SourceError, match=r"there is no Q2_K; .*: Q4_K_M \(.*\), Q8_0 \("):
        resolve(f"hf:{REPOSITORY}:Q2_K")


def test_no_network(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    # Port 9 of this machine answers nobody.
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(SourceError, match=r"no connection to http://127\.0\.0\.1:9"):
        resolve(f"hf:{REPOSITORY}")


def test_offline_and_not_here(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    resolve(f"hf:{REPOSITORY}:Q8_0")
    hub.asked.clear()
    with pytest.raises(SourceError, match=r"not on this machine, and downloads are off.*Q8_0 "):
        resolve(f"hf:{REPOSITORY}:Q4_K_M", offline=True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(SourceError, match="HF_HUB_OFFLINE forbids"):
        resolve(f"hf:{REPOSITORY}:Q4_K_M")
    assert hub.asked == []


def test_a_full_disk_is_noticed_before_the_download(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(1, 1, 1000))
    with pytest.raises(SourceError, match=r"only 0\.0 MB are free.*set HF_HUB_CACHE"):
        resolve(f"hf:{REPOSITORY}")
    assert hub.downloads() == []


@pytest.mark.parametrize(
    "answer",
    [
        b"<html>",
        b"[]",
        b'{"id": "a/b", "sha": "../../x", "siblings": []}',
        b'{"id": "a/b", "sha": "%b", "siblings": [{"rfilename": "../x.gguf", "size": 1, '
        b'"blobId": "abc"}]}' % COMMIT.encode(),
        b'{"id": "a/b", "sha": "%b", "siblings": [{"rfilename": "x.gguf", "size": 1, '
        b'"blobId": "../../abc"}]}' % COMMIT.encode(),
        b'{"id": "a/b", "sha": "%b", "siblings": [{"rfilename": "x.gguf", "size": 1, '
        b'"lfs": {"sha256": "abc", "size": 1, "pointerSize": 1}}]}' % COMMIT.encode(),
    ],
)
def test_an_answer_that_makes_no_sense_writes_nothing(hub: Hub, home: Path, answer: bytes) -> None:
    hub.answer = answer
    with pytest.raises(SourceError, match=r"is not understood|a bad file or commit"):
        resolve(f"hf:{REPOSITORY}")
    assert list(home.glob("**/*.gguf")) == []


def test_other_names_do_not_import_huggingface_hub(home: Path) -> None:
    (home / "m.gguf").touch()
    program = (
        "import sys; from nextn.files.sources import resolve, list_other_caches; "
        "resolve('m.gguf'); list_other_caches(); sys.exit('huggingface_hub' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], env=os.environ).returncode == 0
