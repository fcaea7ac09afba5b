"""The options of `nextn serve`."""

from __future__ import annotations

import click

from nextn.cli.command import option, together
from nextn.cli.options import draft_setting

_SERVER = "Server"
_ACCESS = "Access"

server_options = together(
    option(
        _SERVER,
        "--host",
        default="127.0.0.1",
        show_default=True,
        metavar="ADDRESS",
        help="Address to listen on; 0.0.0.0 for all.",
    ),
    option(
        _SERVER,
        "--port",
        type=click.IntRange(0, 65535),
        default=8080,
        show_default=True,
        metavar="N",
        help="Port to listen on; 0 takes a free one.",
    ),
    option(
        _SERVER,
        "-a",
        "--alias",
        "aliases",
        multiple=True,
        metavar="NAME",
        help="A further name of the first model; may be given several times.",
    ),
    option(
        _SERVER,
        "-np",
        "--parallel",
        type=click.IntRange(1, 256),
        default=8,
        show_default=True,
        metavar="N",
        help="Texts that are written at a time; more wait.",
    ),
    option(
        _SERVER,
        "--max-queue",
        type=click.IntRange(0),
        default=256,
        show_default=True,
        metavar="N",
        help="Texts that may wait; a request beyond that is refused.",
    ),
    option(
        _SERVER,
        "--models-max",
        type=click.IntRange(1),
        default=1,
        show_default=True,
        metavar="N",
        help="Models that are loaded at a time. Others are loaded when asked for; then the one "
        "unused for longest goes.",
    ),
    option(
        _SERVER,
        "--keep-alive",
        type=float,
        default=-1,
        show_default=True,
        metavar="SECONDS",
        help="Unload a model that was not asked for so long; -1 for never.",
    ),
    option(
        _SERVER,
        "--mtp",
        "--draft",
        "draft",
        callback=draft_setting,
        metavar="[auto|off|N]",
        default="auto",
        show_default=True,
        help="Tokens to draft per step, for requests that do not say. Changes the speed, never "
        "the text.",
    ),
    option(
        _SERVER,
        "--sse-ping-interval",
        type=click.FloatRange(0.1),
        default=15.0,
        show_default=True,
        metavar="SECONDS",
        help="Send a ping on a streamed answer without news for so long.",
    ),
    option(
        _SERVER,
        "--log",
        "log_style",
        type=click.Choice(["text", "json"]),
        default="text",
        show_default=True,
        help="How requests are logged on standard error; never what is in them.",
    ),
)

access_options = together(
    option(
        _ACCESS,
        "--api-key",
        "api_keys",
        multiple=True,
        envvar="NEXTN_API_KEY",
        metavar="KEY",
        help="Answer only requests with this key; may be given several times. Others can see the "
        "command line: better set NEXTN_API_KEY, or use a file.",
    ),
    option(
        _ACCESS,
        "--api-key-file",
        type=click.File(encoding="utf-8"),
        metavar="FILE",
        help="A file with keys, one per line.",
    ),
    option(
        _ACCESS,
        "--insecure",
        is_flag=True,
        help="Let others reach a server that needs no key.",
    ),
    option(
        _ACCESS,
        "--allowed-host",
        "allowed_hosts",
        multiple=True,
        metavar="NAME",
        help="A further name that this server is called by; may be given several times.",
    ),
    option(
        _ACCESS,
        "--cors-origin",
        "origins",
        multiple=True,
        metavar="ORIGIN",
        help="Let pages of this origin, such as http://localhost:3000, ask from a browser; * for "
        "all. May be given several times.",
    ),
)
