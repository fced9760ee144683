"""`probekit explore`: every pair of a finished run in the browser, served or as a folder."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from probekit.cli.resuming import Directory
from probekit.cli.stop import Terminated
from probekit.cli.terminal import say
from probekit.errors import InputError


def explore(
    run: Directory,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Write a folder that any web server, or no server at all, can show."),
    ] = None,
    serve: Annotated[
        bool, typer.Option("--serve", help="With --out: serve as well. Without --out that is what happens.")
    ] = False,
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1. Default: a free one.")] = 0,
    contexts: Annotated[
        str, typer.Option(help="Pairs a layer, the strongest, whose tokens are put into the folder; or all.")
    ] = "200",
    force: Annotated[
        bool, typer.Option("--force", help="Replace the explorer of another run in the same folder.")
    ] = False,
) -> None:
    """Search, filter and open every pair of a finished run in the browser: served on 127.0.0.1, or written as a folder.

    Example: probekit explore runs/gpt2

    Example: probekit explore runs/gpt2 --out gpt2-pairs --contexts all
    """
    from probekit.results.explore import Details, files_of
    from probekit.results.run import load
    from probekit.results.serving import ExplorerServer

    n_contexts = _contexts(contexts)
    held = load(run)
    if out is not None:
        say(f"explorer: {held.explore(out, contexts=n_contexts, force=force)}")
        if not serve:
            return
    details = Details(held)
    # a served pair is made when it is opened
    with ExplorerServer(files_of(held, details, 0), details, port) as server:
        try:
            sys.stdout.write(f"{server.url}\n")
            sys.stdout.flush()
            say(f"{held.path} is served to this machine alone at {server.url}; Ctrl-C ends it.")
            server.serve_forever(poll_interval=0.2)
        except Terminated:
            raise
        except KeyboardInterrupt:
            say("closed.")  # Ctrl-C is how this ends; a scheduler's signal keeps its exit code


def _contexts(asked: str) -> int | None:
    if asked == "all":
        return None
    if not asked.isdecimal():
        raise InputError(f"--contexts: got {asked!r}, wanted a whole number, or all.")
    return int(asked)
