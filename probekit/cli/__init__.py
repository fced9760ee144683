"""The `probekit` command. Heavy modules are imported by the commands that need them, so that --help is quick."""

from __future__ import annotations

import os
import sys
from typing import Annotated, Any

import typer

from probekit.cli.analysis import analyze, demo, report, resume, verify
from probekit.cli.audit import audit
from probekit.cli.benchmark import benchmark
from probekit.cli.capacity import capacity
from probekit.cli.channels import channels
from probekit.cli.circuits import app as circuits_app
from probekit.cli.compress import compress
from probekit.cli.doctor import doctor
from probekit.cli.explore import explore
from probekit.cli.grid import grid
from probekit.cli.listing import compare, runs
from probekit.cli.look import concepts, pair
from probekit.cli.stop import Stoppable, Stopped, listening
from probekit.cli.terminal import say
from probekit.cli.writes import writes
from probekit.errors import ProbekitError
from probekit.version import VERSION

_REFUSED: Any = typer.BadParameter.__mro__[2]
"""What a command line that cannot be parsed raises: ClickException, of click or of typer's own copy."""

app = typer.Typer(
    name="probekit",
    cls=Stoppable,
    help="How many AND-like features does each MLP layer of a transformer compute in superposition?",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(asked: bool) -> bool:
    if asked:
        typer.echo(f"probekit {VERSION}")
        raise typer.Exit
    return asked


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", "-V", help="Print the version.", is_eager=True, callback=_print_version),
    ] = False,
) -> None:
    pass


for _command in (
    demo,
    analyze,
    report,
    resume,
    verify,
    runs,
    compare,
    concepts,
    pair,
    explore,
    grid,
    capacity,
    channels,
    compress,
    audit,
    benchmark,
    writes,
    doctor,
):
    app.command()(_command)
app.add_typer(circuits_app, name="circuits")


def main() -> None:
    """Run the command; every error probekit raises becomes one message and its exit code."""
    # on a shared machine waiting threads would burn the cores that others need: let them sleep
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    came: list[int] = []
    try:
        with listening() as came:
            code = app(standalone_mode=False)
    except ProbekitError as error:
        say(f" {type(error).__name__}: {error}", lead="error", style="red")
        code = error.exit_code
    except (Stopped, KeyboardInterrupt) as stop:
        stopped = stop if isinstance(stop, Stopped) else Stopped(stop)
        say("interrupted; nothing half-written was left behind.")
        for note in stopped.notes:
            say(note)
        code = 128 + came[0] if came else stopped.code
    except typer.Abort:
        code = 1
    except _REFUSED as error:
        error.show()
        code = error.exit_code
    # what a command returns is nothing; of `--help` and the like typer returns the code
    sys.exit(code if isinstance(code, int) else 0)
