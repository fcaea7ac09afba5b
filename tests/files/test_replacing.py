from __future__ import annotations

from pathlib import Path

import pytest

from nextn.files.replacing import replacing, replacing_all


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_file_has_its_name_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    with replacing(path) as file:
        file.write(b"new")
        assert path.read_bytes() == b"old"
    assert contents(tmp_path) == {"a.bin": b"new"}


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_an_error_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, error: type[BaseException]
) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")

    def break_off() -> None:
        with replacing(path) as file:
            file.write(b"new")
            raise error

    with pytest.raises(error):
        break_off()
    assert contents(tmp_path) == {"a.bin": b"old"}


def test_files_that_belong_together_appear_together(tmp_path: Path) -> None:
    paths = [tmp_path / "a", tmp_path / "b"]
    with replacing_all(paths) as partials:
        for partial in partials:
            partial.write_bytes(partial.name.encode())
        assert not any(path.exists() for path in paths)
    assert sorted(contents(tmp_path)) == ["a", "b"]


def test_if_one_of_them_is_missing_none_appears(tmp_path: Path) -> None:
    paths = [tmp_path / "a", tmp_path / "b"]
    with pytest.raises(FileNotFoundError), replacing_all(paths) as partials:
        partials[1].write_bytes(b"b")
    assert contents(tmp_path) == {}
