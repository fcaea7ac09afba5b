"""The command line: `nextn VERB ...`, one thin file per verb.

Starting it must cost next to nothing, so a verb's file is imported when the verb is used, and what
the verb needs of nextn is imported inside its functions.
"""

from __future__ import annotations

from nextn.cli.application import application, main

__all__ = ["application", "main"]
