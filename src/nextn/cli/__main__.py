"""Makes `python -m nextn.cli` the same as `nextn`."""

from __future__ import annotations

from nextn.cli.application import main

main()
