"""Write the report and the figures of a finished run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from probekit.evidence.truth import Truth
from probekit.report.charts import figures
from probekit.report.page import Companion, render_page
from probekit.report.pair import PairDetailLike
from probekit.report.showcase import chosen
from probekit.results.finished import Finished
from probekit.storage import store
from probekit.storage.manifest import FIGURES, PAIR_DETAILS, REPORT


def publish(
    run: Finished, path: Path | None, companions: Sequence[Finished] = (), truth: Truth | None = None
) -> Path:
    """Render a run to one HTML file, and its figures beside it when that is the run's own report.

    Args:
        run: the finished run.
        path: where to; None: report.html in the run directory.
        companions: other runs shown beside it.
        truth: the known answer of a planted model.

    Returns:
        The path of the report.
    """
    own = path is None
    target = run.path / REPORT if path is None else path
    tables = _pairs(run)
    drawn = figures(run.summary, run.layers, tables)
    examples = run.examples()
    page = render_page(
        run.summary,
        run.layers,
        tables,
        paths={row["layer"]: run.paths(row["layer"]) for row in run.summary["layers"]},
        examples=examples,
        provenance={
            "command": run.record.get("command"),
            "settings": run.record["science"]["settings"],
            "versions": run.record["versions"],
            "fingerprints": {
                "identity": run.record["identity"],
                "model": run.record["science"]["model"],
                "corpus": run.record["science"]["corpus"],
                "tokens": run.summary["corpus"]["fingerprint"],
            },
        },
        companions=[_companion(other) for other in companions],
        drawn=drawn,
        concepts=run.concepts,
        detail=_pair_detail(run, chosen(run.summary, tables, examples)),
        truth=truth,
    )
    if own:  # the page last: where it is, the figures are
        for name, svg in drawn.items():
            store.write_text(run.path / FIGURES / f"{name}.svg", svg)
    store.write_text(target, page)
    return target


def _pairs(run: Finished) -> dict[int, Any]:
    return {row["layer"]: run.pairs(row["layer"]) for row in run.summary["layers"]}


def _companion(run: Finished) -> Companion:
    return Companion(run.summary["model"]["name"], run.summary, run.layers, _pairs(run), run.truth)


def _pair_detail(run: Finished, example: Mapping[str, Any] | None) -> PairDetailLike | None:
    """The pair of the first screen; None where there is none, or an older version wrote the run, without pair details."""
    if example is None or not (run.path / PAIR_DETAILS).is_dir():
        return None
    return run.pair(str(example["a"]), str(example["b"]), int(example["layer"]))
