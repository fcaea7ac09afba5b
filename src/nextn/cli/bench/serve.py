"""`nextn bench serve`: how a server does under load, with drafts and without, and beside a peer."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from nextn.cli.bench.lists import drafts, fractions, limits, numbers, words
from nextn.cli.bench.report_options import check_forms, report_options, temperature_option
from nextn.cli.command import Verb, debug_option, option
from nextn.errors import RequestError

_SERVER = "Server"
_LOAD = "Load"
_REQUESTS = "Requests"
_OUTPUT = "Output"


@click.command(
    cls=Verb,
    name="serve",
    examples=(
        "nextn bench serve",
        "nextn bench serve --concurrency 1,2,4,8,16 --requests 32 --plot load.svg",
        "nextn bench serve --rate 0.5,2 --goodput ttft:500,tpot:50 --json",
        "nextn bench serve --peer http://127.0.0.1:8081",
    ),
)
@option(
    _SERVER,
    "--url",
    default="http://127.0.0.1:8080",
    show_default=True,
    metavar="URL",
    help="Address of the server that is measured.",
)
@option(
    _SERVER,
    "--model",
    metavar="NAME",
    help="The model to ask, as the server calls it.  [default: its first]",
)
@option(
    _SERVER,
    "--peer",
    metavar="URL",
    help="Another server with OpenAI's API, which gets the same load in turn.",
)
@option(
    _SERVER,
    "--peer-model",
    metavar="NAME",
    help="The model to ask there.  [default: its first]",
)
@option(
    _SERVER,
    "--api-key-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="A file whose first line is the server's API key.",
)
@option(
    _LOAD,
    "--concurrency",
    callback=numbers,
    metavar="N,...",
    help="Requests at a time; each number is measured on its own.  [default: 1,4]",
)
@option(
    _LOAD,
    "--rate",
    callback=fractions,
    metavar="X,...",
    help="Requests per second instead, with the gaps of a Poisson process.",
)
@option(
    _LOAD,
    "--requests",
    type=int,
    default=16,
    show_default=True,
    metavar="N",
    help="Requests of each load and side; more where each part needs them to fill the load.",
)
@option(
    _LOAD,
    "--rounds",
    type=int,
    default=2,
    show_default=True,
    metavar="N",
    help="Parts in which they are sent; the sides take turns after each.",
)
@option(
    _REQUESTS,
    "--mtp",
    "drafts",
    callback=drafts,
    default="off,auto",
    show_default=True,
    metavar="SETTING,...",
    help="Settings of multi-token prediction to compare: off, auto, or a number of tokens.",
)
@option(
    _REQUESTS,
    "--categories",
    callback=words,
    metavar="NAME,...",
    help="Tasks: code, structured, qa, summarise, translate, reasoning, creative, chat, "
    "multiturn.  [default: all]",
)
@option(
    _REQUESTS,
    "-n",
    "--n-gen",
    "tokens",
    type=int,
    default=128,
    show_default=True,
    metavar="N",
    help="Most tokens of an answer.",
)
@temperature_option(_REQUESTS)
@option(
    _REQUESTS,
    "--ignore-eos",
    "ignore_end",
    is_flag=True,
    help="Write on past end tokens, so that all answers are equally long.",
)
@option(
    _REQUESTS,
    "--seed",
    type=int,
    default=0,
    show_default=True,
    metavar="N",
    help="Of the order of the prompts, the arrivals, and the texts.",
)
@option(
    _OUTPUT,
    "--goodput",
    "limits",
    callback=limits,
    metavar="NAME:MS,...",
    help="Count the requests that stay within limits, such as ttft:500,tpot:50,e2e:10000.",
)
@report_options(
    json="Write one JSON object.",
    plot="Draw rates and times over the load into an SVG or PNG file; needs matplotlib.",
)
@debug_option
def command(**options: Any) -> None:
    """Measure a running server under load, with drafts and without.

    The server is one of `nextn serve`, which should write as many texts at a time as are asked for
    (--parallel). All sides get the same prompts, part by part in turn: the server with each setting
    of --mtp, and the peer. None finds them in its cache. Before, some texts are compared; if one
    depends on drafts, the command fails.

    TTFT is the time to the first token, TPOT the time per further token, ITL the time between
    pieces of the stream, which may be several tokens, and E2E the time to the last token: mean,
    median and 99th percentile. TOKENS/S is over all requests; RATIO compares it with the first
    side's.
    """
    from nextn.bench.serve.settings import Settings

    check_forms(options)
    if options["concurrency"] is not None and options["rate"] is not None:
        raise click.UsageError("--concurrency and --rate exclude each other")
    names = ("requests", "rounds", "drafts", "tokens", "temperature", "ignore_end", "seed")
    settings = Settings(limits=options["limits"], **{name: options[name] for name in names})
    given = {
        "concurrencies": options["concurrency"],
        "rates": options["rate"],
        "categories": options["categories"],
    }
    settings = replace(settings, **{k: v for k, v in given.items() if v is not None})
    settings.check()
    plot: Path | None = options["plot"]
    if plot is not None:
        from nextn.bench.plot import check_plot

        check_plot(plot)

    from nextn.bench.serve import Client, Report, measure
    from nextn.cli.progress import ProgressDisplay

    client = Client(options["url"], model=options["model"], key=_read_key(options["api_key_file"]))
    peer = None
    if options["peer"] is not None:
        peer = Client(options["peer"], model=options["peer_model"])
    elif options["peer_model"] is not None:
        raise click.UsageError("--peer-model needs --peer")
    with ProgressDisplay(quiet=options["quiet"], counted="answers") as progress:
        measured = measure(
            settings,
            client,
            peer,
            lambda done, total: progress(f"measuring {client.model}", done, total),
        )
    url = None if peer is None else peer.url
    report = Report(client.model, client.url, url, settings, measured)
    if options["as_json"]:
        click.echo(json.dumps(report.as_record(), indent=2))
    else:
        click.echo(report.as_markdown() if options["as_markdown"] else report.as_text())
    if plot is not None:
        from nextn.bench.serve.plot import plot_report

        plot_report(report, plot)


def _read_key(path: Path | None) -> str | None:
    """The first line of a file.

    Raises:
        RequestError: it is empty.
    """
    if path is None:
        return None
    key = path.read_text(encoding="utf-8").strip().partition("\n")[0].strip()
    if not key:
        raise RequestError(f"--api-key-file: {path} is empty")
    return key
