"""Models that other programs downloaded: found, named, and never the cause of an error."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest

from nextn.errors import SourceError
from nextn.files.sources import LocalModel, list_other_caches, resolve

COMMITS = ("1" * 40, "2" * 40)


@pytest.fixture(autouse=True)
def everywhere(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home; the service of the system that runs the tests is not looked at."""
    monkeypatch.setenv("OLLAMA_MODELS", str(home / "ollama"))
    return home


def write(path: Path, content: bytes = b"GGUF") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def add_to_hub(home: Path, commit: str, path: str, content: bytes, reference: str = "") -> Path:
    """Write as `huggingface_hub` does."""
    repository = home / ".cache/huggingface/hub/models--user--repo"
    blob = write(repository / "blobs" / hashlib.sha256(content).hexdigest(), content)
    file = repository / "snapshots" / commit / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.symlink_to(os.path.relpath(blob, file.parent))
    if reference:
        write(repository / "refs" / reference, commit.encode())
    return file


def add_to_ollama(home: Path, name: str, content: bytes, **changes: object) -> Path:
    """Write as Ollama does; `changes` replace what the layer of the model says."""
    digest = hashlib.sha256(content).hexdigest()
    blob = write(home / f"ollama/blobs/sha256-{digest}", content)
    kind = "application/vnd.ollama.image."
    layers = [
        {"mediaType": kind + "template", "digest": "sha256:" + "0" * 64, "size": 1},
        {"mediaType": kind + "model", "digest": f"sha256:{digest}", "size": len(content)} | changes,
    ]
    write(home / "ollama/manifests" / name, json.dumps({"layers": layers}).encode())
    return blob


def listed() -> dict[str, LocalModel]:
    found = list_other_caches()
    by_name = {model.name: model for model in found}
    assert len(by_name) == len(found)
    return by_name


def test_nothing_there_is_an_empty_list() -> None:
    assert list_other_caches() == []


def test_models_of_the_hub_have_the_name_that_leads_to_them(home: Path) -> None:
    file = add_to_hub(home, COMMITS[0], "m-Q4_K_M.gguf", b"GGUF new", "main")
    same = add_to_hub(home, COMMITS[1], "m-Q4_K_M.gguf", b"GGUF new")
    older = add_to_hub(home, COMMITS[1], "m-Q8_0.gguf", b"GGUF older")
    add_to_hub(home, COMMITS[0], "mmproj-F16.gguf", b"GGUF eyes")
    found = listed()
    assert set(found) == {"hf:user/repo:Q4_K_M", f"hf:user/repo@{COMMITS[1]}:Q8_0"}
    assert found["hf:user/repo:Q4_K_M"].path == file != same
    assert found["hf:user/repo:Q4_K_M"].bytes == len(b"GGUF new")
    assert {model.source for model in found.values()} == {"Hugging Face"}
    assert resolve(f"hf:user/repo@{COMMITS[1]}:Q8_0").path == older


def test_models_of_equal_quantisation_are_named_by_their_file(home: Path) -> None:
    for name in ("a-Q8_0.gguf", "b-Q8_0.gguf", "nested/c d-Q8_0.gguf"):
        add_to_hub(home, COMMITS[0], name, name.encode(), "main")
    found = listed()
    assert set(found) == {
        f"hf:user/repo:{name}" for name in ("a-Q8_0.gguf", "b-Q8_0.gguf", "nested/c d-Q8_0.gguf")
    }
    assert all(resolve(name, offline=True).path == model.path for name, model in found.items())


def test_a_split_model_is_listed_once_with_its_whole_size(home: Path) -> None:
    for number in (1, 2):
        add_to_hub(home, COMMITS[0], f"m-Q8_0-0000{number}-of-00002.gguf", b"x" * number, "main")
    assert listed()["hf:user/repo:Q8_0"].bytes == 3
    (home / f".cache/huggingface/hub/models--user--repo/snapshots/{COMMITS[0]}").joinpath(
        "m-Q8_0-00002-of-00002.gguf"
    ).unlink()
    assert listed() == {}


def test_models_of_llama_cpp_and_lm_studio_are_listed_by_path(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    llama = write(home / ".cache/llama.cpp/ggml-org_m-GGUF_m-Q4_0.gguf")
    write(home / ".cache/llama.cpp/ggml-org_m-GGUF_mmproj-m-Q4_0.gguf")
    write(home / ".cache/llama.cpp/ggml-org_m-GGUF_x.gguf.downloadInProgress")
    studio = write(home / ".lmstudio/models/user/repo/m-Q8_0.gguf")
    old_studio = write(home / ".cache/lm-studio/models/user/repo/m-Q6_K.gguf")
    found = {str(model.path): model.source for model in list_other_caches()}
    assert found == {
        str(llama): "llama.cpp",
        str(studio): "LM Studio",
        str(old_studio): "LM Studio",
    }
    assert all(resolve(model.name).path == model.path for model in list_other_caches())
    moved = write(home / "elsewhere/m.gguf")
    monkeypatch.setenv("LLAMA_CACHE", str(moved.parent))
    assert str(moved) in listed()
    assert str(llama) not in listed()


OLLAMA_NAMES = {
    "registry.ollama.ai/library/llama3.2/3b": "ollama:llama3.2:3b",
    "registry.ollama.ai/library/tiny/latest": "ollama:tiny:latest",
    "registry.ollama.ai/someone/tiny/latest": "ollama:someone/tiny:latest",
    "hf.co/user/repo/Q4_K_M": "ollama:hf.co/user/repo:Q4_K_M",
}


@pytest.mark.parametrize(("manifest", "name"), OLLAMA_NAMES.items())
def test_models_of_ollama_have_the_name_that_leads_to_them(
    home: Path, manifest: str, name: str
) -> None:
    blob = add_to_ollama(home, manifest, b"GGUF tiny")
    (model,) = list_other_caches()
    assert (model.name, model.path, model.bytes, model.source) == (name, blob, 9, "Ollama")
    assert resolve(name).path == blob
    assert resolve(name).name == name


def test_the_tag_latest_can_be_left_out(home: Path) -> None:
    blob = add_to_ollama(home, "registry.ollama.ai/library/tiny/latest", b"GGUF tiny")
    assert resolve("ollama:tiny").path == blob


def test_a_model_that_ollama_does_not_have_is_answered_with_those_it_has(home: Path) -> None:
    with pytest.raises(SourceError, match="ollama pull other"):
        resolve("ollama:other")
    add_to_ollama(home, "registry.ollama.ai/library/tiny/latest", b"GGUF tiny")
    with pytest.raises(SourceError, match="no such model on this machine; it has ollama:tiny:lat"):
        resolve("ollama:other")
    for name in ("ollama:", "ollama:../../x", "ollama:a/b/c/d", "ollama:a:b:c"):
        with pytest.raises(SourceError, match="is not of the form ollama:NAME"):
            resolve(name)


BROKEN = {
    "not JSON": (b"{", "is broken"),
    "no text": (b"\xff\xfe", "is broken"),
    "another kind": (b"[]", "is broken"),
    "no layers": (b"{}", "is broken"),
    "layers of another kind": (b'{"layers": [1]}', "is broken"),
    "too deep": (b"[" * 100_000, "is broken"),
    "too large": (b" " * 2_000_000, "too large"),
    "no model": (b'{"layers": []}', "no layer is a GGUF file"),
    "a path": (
        b'{"layers": [{"mediaType": "application/vnd.ollama.image.model", "digest": "../../x"}]}',
        "not a SHA-256",
    ),
    "a number": (
        b'{"layers": [{"mediaType": "application/vnd.ollama.image.model", "digest": 1}]}',
        "is broken",
    ),
}


@pytest.mark.parametrize(("content", "reason"), BROKEN.values(), ids=BROKEN)
def test_a_broken_manifest_is_an_error_for_its_name_and_none_for_the_list(
    home: Path, content: bytes, reason: str
) -> None:
    write(home / "ollama/manifests/registry.ollama.ai/library/bad/latest", content)
    add_to_ollama(home, "registry.ollama.ai/library/good/latest", b"GGUF good")
    assert list(listed()) == ["ollama:good:latest"]
    with pytest.raises(SourceError, match=reason):
        resolve("ollama:bad")


def test_a_blob_that_is_gone_or_no_gguf_is_not_listed(home: Path) -> None:
    add_to_ollama(home, "registry.ollama.ai/library/gone/latest", b"GGUF gone").unlink()
    add_to_ollama(home, "registry.ollama.ai/library/other/latest", b"safetensors")
    assert listed() == {}
    with pytest.raises(SourceError, match=r"No such file.*`ollama pull` fetches"):
        resolve("ollama:gone")
    with pytest.raises(SourceError, match="is not a GGUF file"):
        resolve("ollama:other")


def test_damaged_folders_of_the_hub_are_passed_over(home: Path) -> None:
    hub = home / ".cache/huggingface/hub"
    write(hub / "models--a--file", b"")
    write(hub / "models--no--snapshots/refs/main", b"not a commit")
    write(hub / "models--odd--names/snapshots/not-a-commit/m-Q8_0.gguf")
    dangling = hub / "models--user--repo/snapshots" / COMMITS[0] / "gone-Q8_0.gguf"
    dangling.parent.mkdir(parents=True)
    dangling.symlink_to("../../blobs/gone")
    (hub / "models--user--repo/refs/main/directory").mkdir(parents=True)
    add_to_hub(home, COMMITS[1], "m-Q8_0.gguf", b"GGUF")
    assert list(listed()) == [f"hf:user/repo@{COMMITS[1]}:Q8_0"]


@pytest.mark.parametrize(
    ("variable", "value", "directory"),
    [
        ("HF_HUB_CACHE", "a", "a"),
        ("HUGGINGFACE_HUB_CACHE", "b", "b"),
        ("HF_HOME", "c", "c/hub"),
        ("XDG_CACHE_HOME", "d", "d/huggingface/hub"),
    ],
)
def test_the_variables_of_the_hub_are_honoured(
    home: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, directory: str
) -> None:
    add_to_hub(home, COMMITS[0], "m-Q8_0.gguf", b"GGUF", "main")
    (home / directory).parent.mkdir(parents=True, exist_ok=True)
    (home / ".cache/huggingface/hub").rename(home / directory)
    assert listed() == {}
    monkeypatch.setenv(variable, str(home / value))
    assert list(listed()) == ["hf:user/repo:Q8_0"]
