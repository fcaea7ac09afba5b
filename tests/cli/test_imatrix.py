from __future__ import annotations

from pathlib import Path

from nextn.files.imatrix import read_imatrix
from tests.cli.conftest import RunCli
from tests.support.tiny_gguf import TinyHead, write_tiny_model


def test_it_writes_what_quantize_reads(cli: RunCli, tmp_path: Path) -> None:
    model, text, output = (tmp_path / name for name in ("m.gguf", "t.txt", "i.gguf"))
    write_tiny_model(model, "llama", types="F16", head=TinyHead())
    text.write_text("Some words to read. " * 30)
    result = cli("imatrix", model, "--text", text, "-o", output, "-c", 64, "--chunks", 3, "-t", 1)
    assert result.exit_code == 0, result.stderr
    assert result.stdout.splitlines() == [str(output)]
    assert "with its prediction head" in result.stderr
    assert read_imatrix(output).chunk_count == 3
    arguments = ("quantize", model, tmp_path / "out.gguf", "Q4_0", "--imatrix", output)
    assert cli(*arguments).exit_code == 0


def test_errors_are_one_line(cli: RunCli, tiny: Path, tmp_path: Path) -> None:
    result = cli("imatrix", tiny, "--text", tmp_path / "absent.txt", "-o", tmp_path / "i.gguf")
    assert result.exit_code == 2
    assert "absent.txt: cannot be read" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
