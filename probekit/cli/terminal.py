"""What a person sees in the terminal: messages, progress bars with a rate, the ladder of a run."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from rich.console import Console

    from probekit.evidence.summary import RungKey
    from probekit.report.tables import Table
    from probekit.results.run import Run

Result = TypeVar("Result")


def print_json(value: Any) -> None:
    """Print a value as JSON on the standard output."""
    import json

    sys.stdout.write(json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n")


def in_bytes(n_bytes: int) -> str:
    """A number of bytes in the decimal unit that keeps it short: 12 kB, 3.4 GB."""
    size, unit = float(n_bytes), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if size < 1000:
            break
        size, unit = size / 1000, larger
    return f"{size:.2g} {unit}" if size < 10 else f"{size:.0f} {unit}"


def say(text: str, *, lead: str = "", style: str = "bold", quiet: bool = False) -> None:
    """A message on the standard error, as it stands: brackets in names and paths are no markup.

    Args:
        text: the message.
        lead: what is put before it, in `style`.
        style: bold, or a colour.
        quiet: say nothing.
    """
    from rich.console import Console
    from rich.text import Text

    if not quiet:
        Console(stderr=True, highlight=False, soft_wrap=True).print(Text.assemble((lead, style), text))


def watched(work: Callable[[Any], Result], *, quiet: bool = False) -> Result:
    """Run with progress bars where a terminal watches."""
    from rich.console import Console

    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        return work(False)
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description:<12}"), BarColumn(), TextColumn("{task.completed:>9,.0f} / {task.total:,.0f} tokens"),
        TextColumn("{task.fields[rate]}"), TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=console, transient=True) as bars:
        return work(_Shown(bars))


class _Shown:
    """One bar at a time, that of the running step, and lines above it."""

    def __init__(self, bars: Any) -> None:
        self._bars = bars
        self._what: str | None = None
        self._task: Any = None

    def __call__(self, what: str, done: int, total: int) -> None:
        if self._what != what or done < self._bars.tasks[-1].completed:
            if self._task is not None:
                self._bars.remove_task(self._task)
            self._what, self._task = what, self._bars.add_task(what, total=total, rate="")
        speed = self._bars.tasks[-1].speed
        self._bars.update(self._task, completed=done, rate=f"{speed:,.0f} tok/s" if speed else "")

    def say(self, text: str) -> None:
        """A line above the bar."""
        self._bars.console.print(text, highlight=False, markup=False)


def print_table(console: Console, table: Table) -> None:
    """Print a table of a report; its text is no markup."""
    from rich.table import Table as RichTable
    from rich.text import Text

    shown = RichTable(title=Text(table.caption, "table.title"), title_justify="left")
    for number, column in enumerate(table.columns):
        shown.add_column(column, justify="left" if number < table.n_text else "right", overflow="fold")
    for row in table.rows:
        shown.add_row(*map(Text, row))
    console.print(shown)


def print_answer(table: Table, sentences: Iterable[str], *, width: int) -> None:
    """A table of a report, and what it says in words.

    Args:
        table: of the report.
        sentences: printed below it.
        width: in characters, where no terminal says it.
    """
    from rich.console import Console

    console = Console(width=None if sys.stdout.isatty() else width, highlight=False)
    print_table(console, table)
    for sentence in sentences:
        console.print(sentence, markup=False)


_RUNGS: dict[str, RungKey] = {
    "significant": "n_significant_raw", "ε-represented": "n_represented", "above plain twins": "n_above_plain",
    "relayed": "n_relayed", "above twins": "n_above_twins", "computed": "n_computed", "superposed": "n_superposed",
}  # fmt: skip


def print_run(run: Run) -> None:
    """The ladder of every layer, and the answer in words."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from probekit.report.answer import answer

    summary = run.summary
    title = f"{summary['model']['name']}: pairs on every rung (random twins' mean in brackets)"
    table = Table(title=Text(title, "table.title"))
    for name in ("layer", "tested", *_RUNGS):
        table.add_column(name, justify="right")
    for row in summary["layers"]:
        cells = [str(row["layer"]), f"{row['n_tested']:,}"]
        for rung in _RUNGS.values():
            value, twins = row[rung], (row["twins"] or {}).get(rung)
            text = "–" if value is None else f"{value:,}"
            cells.append(text + (f" ({twins['mean']:,.1f})" if twins else ""))
        table.add_row(*cells)
    console = Console(width=None if sys.stdout.isatty() else 120)
    console.print(table)
    for sentence in answer(summary):
        console.print(sentence, highlight=False, markup=False)
    for note in summary["notes"]:
        console.print(note, highlight=False, markup=False)
    console.print()
