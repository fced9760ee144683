"""Several finished runs on one page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from probekit.errors import InputError, guarded, require_order, shown
from probekit.followups.difference import difference, in_common, records
from probekit.report.compare import Compared, render_comparison
from probekit.results.run import Run, load
from probekit.storage import store


@guarded
def compare(
    runs: Sequence[Run | str | Path], path: str | Path, *, names: Sequence[str] | None = None
) -> Path:
    """Write one HTML page that sets several finished runs side by side: models, checkpoints or corpora.

    Whether each of them differs from the first is tested, layer by layer and paired by pair (`pk.difference`).

    Args:
        runs: two or more runs, or their directories, in the order in which they are to be read.
        path: where the page goes.
        names: what the runs are called; None takes the models' names, told apart by their directories where two agree.

    Returns:
        The path written.

    Raises:
        InputError: fewer than two runs, or names that do not tell them apart.
        StoreError: a directory is no run, or the page cannot be written.
    """
    require_order(runs, "runs")
    require_order(names, "names")
    held = _runs(runs)
    if isinstance(names, str):
        raise InputError(f"names: got {names!r}, wanted a list of names, one a run.")
    if names is not None and len(names) != len(held):
        raise InputError(f"compare: got {len(names)} names for {len(held)} runs, wanted one each.")
    titles = list(names) if names is not None else _titles(held)
    compared = [
        Compared(title, run.summary, run.record["science"]) for title, run in zip(titles, held, strict=True)
    ]
    target = Path(path)
    store.write_text(target, render_comparison(compared, _tested(titles, held)))
    return target


def _tested(titles: Sequence[str], runs: Sequence[Run]) -> dict[str, list[dict[str, Any]]]:
    """Every run against the first; those without a layer in common with it are left out."""
    return {
        title: records(difference(runs[0], run))
        for title, run in zip(titles[1:], runs[1:], strict=True)
        if in_common(runs[0], run)
    }


def _runs(given: Any) -> list[Run]:
    if isinstance(given, str | Path | Run) or not isinstance(given, Iterable):
        raise InputError(
            f"compare: got {shown(given)} ({type(given).__name__}), wanted a list of two or more runs or their directories."
        )
    held = [_run(one) for one in given]
    if len(held) < 2:
        raise InputError(
            f"compare: got {len(held)} run{'' if held else 's'}, wanted two or more; the report of one run is run.report()."
        )
    return held


def _run(given: Any) -> Run:
    if not isinstance(given, str | Path | Run):
        raise InputError(
            f"compare: got {shown(given)} ({type(given).__name__}) among the runs, wanted a run or its directory."
        )
    return given if isinstance(given, Run) else load(given)


def _titles(runs: Sequence[Run]) -> list[str]:
    models = [str(run.summary["model"]["name"]) for run in runs]
    return models if len(set(models)) == len(models) else [run.path.name for run in runs]
