"""Finds models that Ollama downloaded.

models/manifests/registry.ollama.ai/library/NAME/TAG     JSON: which blobs make the model
models/blobs/sha256-DIGEST                               one of them is a GGUF file
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

from nextn.errors import SourceError
from nextn.files.sources.model_source import ModelSource

OLLAMA_PREFIX = "ollama:"

_VARIABLE = "OLLAMA_MODELS"
_REGISTRY = "registry.ollama.ai"
_LIBRARY = "library"
_LATEST = "latest"
_MODEL = "application/vnd.ollama.image.model"
_MAGIC = b"GGUF"
_MOST_BYTES = 1 << 20
_DIGEST = re.compile(r"sha256[:-](?P<digest>[0-9a-f]{64})", re.ASCII)
_NAME = re.compile(
    r"(?:(?:(?P<host>\w[\w.-]*)/)?(?P<user>\w[\w.-]*)/)?(?P<model>\w[\w.-]*)(?::(?P<tag>\w[\w.-]*))?",
    re.ASCII,
)


def directories() -> list[Path]:
    """Where Ollama keeps models: $OLLAMA_MODELS, or the user's and the system service's."""
    if os.environ.get(_VARIABLE):
        return [Path(os.environ[_VARIABLE]).expanduser()]
    return [Path("~/.ollama/models").expanduser(), Path("/usr/share/ollama/.ollama/models")]


def find_in_ollama(name: str) -> ModelSource:
    """The model "ollama:[[HOST/]USER/]NAME[:TAG]"; the tag is "latest" if none is given.

    Raises:
        SourceError: Ollama has no such model here, or its manifest is broken.
    """
    match = _NAME.fullmatch(name.removeprefix(OLLAMA_PREFIX))
    if match is None:
        raise SourceError(
            f"{name!r} is not of the form {OLLAMA_PREFIX}NAME[:TAG], such as "
            f"{OLLAMA_PREFIX}llama3.2:3b"
        )
    host, user, tag = match["host"] or _REGISTRY, match["user"] or _LIBRARY, match["tag"] or _LATEST
    for directory in directories():
        manifest = directory / "manifests" / host / user / match["model"] / tag
        if manifest.is_file():
            return ModelSource(_blob(directory, manifest, name), name)
    here = ", ".join(found for found, _ in installed())
    raise SourceError(
        f"{name}: Ollama has no such model on this machine; "
        + (f"it has {here}" if here else f"run `ollama pull {match[0]}`, or set {_VARIABLE}")
    )


def installed() -> Iterator[tuple[str, Path]]:
    """Every model of Ollama that is a GGUF file: its name for `find_in_ollama`, and the file.

    Broken manifests, and models in other formats, are left out.
    """
    for directory in directories():
        manifests = directory / "manifests"
        for folder, _, tags in sorted(os.walk(manifests)):
            for tag in sorted(tags):
                path = Path(folder, tag)
                parts = path.relative_to(manifests).parts
                if len(parts) != 4:
                    continue
                host, user, model, tag = parts
                shown = model if user == _LIBRARY else f"{user}/{model}"
                shown = shown if host == _REGISTRY else f"{host}/{user}/{model}"
                name = f"{OLLAMA_PREFIX}{shown}:{tag}"
                if _NAME.fullmatch(name.removeprefix(OLLAMA_PREFIX)) is None:
                    continue
                try:
                    yield name, _blob(directory, path, name)
                except SourceError:
                    continue


def _blob(directory: Path, manifest: Path, name: str) -> Path:
    """The GGUF file that a manifest names."""
    digests = _model_digests(manifest, name)
    if len(digests) != 1:
        reason = "it is in several files" if digests else "no layer is a GGUF file"
        raise SourceError(f"{name}: nextn cannot read this model of Ollama: {reason} ({manifest})")
    path = directory / "blobs" / f"sha256-{digests[0]}"
    try:
        with path.open("rb") as file:
            magic = file.read(len(_MAGIC))
    except OSError as error:
        raise SourceError(
            f"{name}: {path}: {error.strerror}; `ollama pull` fetches the file again"
        ) from error
    if magic != _MAGIC:
        raise SourceError(f"{name}: {path} is not a GGUF file")
    return path


def _model_digests(manifest: Path, name: str) -> list[str]:
    try:
        if manifest.stat().st_size > _MOST_BYTES:
            raise ValueError("it is too large")
        layers = json.loads(manifest.read_bytes())["layers"]
        texts = [layer["digest"] for layer in layers if layer["mediaType"] == _MODEL]
        matches = [_DIGEST.fullmatch(text) for text in texts]
        if None in matches:
            raise ValueError("a digest is not a SHA-256")
        return [match["digest"] for match in matches if match]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise SourceError(
            f"{name}: the manifest {manifest} is broken: {type(error).__name__}: {error}"
        ) from error
