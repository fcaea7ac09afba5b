from __future__ import annotations

import runpy
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


def test_docs_cli_md_is_up_to_date() -> None:
    page = runpy.run_path(str(DOCS / "generate_cli.py"))["render"]()
    assert (DOCS / "cli.md").read_text(encoding="utf-8") == page, "run python docs/generate_cli.py"
