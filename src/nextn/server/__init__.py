"""The HTTP server: the APIs that people's programs already speak.

`app.py` joins the API families, each of which is one file or folder with a `FAMILY`. What a family
does with a request is always the same: its struct says what the body may be, `chat.py` or
`completion.py` writes the text, and the family puts what comes into its own shape.
"""

from __future__ import annotations
