"""A finished run: its summary, its tables and its report, from memory or from its directory."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import pandas as pd

from probekit.arguments import as_layer
from probekit.errors import FormatError, InputError, guarded
from probekit.evidence.columns import LAYERS, PAIRS, described, in_order
from probekit.evidence.summary import SCHEMA, Summary
from probekit.evidence.tables import TOP_COLUMNS, layer_table, ranked
from probekit.evidence.truth import Truth
from probekit.report.paper import PAGE_MM
from probekit.report.plot import Name, run_chart
from probekit.results.explore import N_CONTEXTS, write_explorer
from probekit.results.export import export_run
from probekit.results.notebook import run_html
from probekit.results.pair import PairDetail, read_pair
from probekit.results.pair_selection import Rung, bound_of
from probekit.results.publish import publish
from probekit.storage import store
from probekit.storage.digest import Digest
from probekit.storage.manifest import CONCEPTS, EXAMPLES, SUMMARY, as_folder, read_record, read_results


class Run:
    """The result of `analyze`, read from its directory.

    Args:
        path: the run directory.
        temporary: the temporary directory that holds it, if nobody asked for a place; it goes with this object.
    """

    def __init__(self, path: Path, temporary: TemporaryDirectory[str] | None = None) -> None:
        self.path = Path(path)
        self._temporary = temporary
        self.record: dict[str, Any] = read_record(self.path)
        self._results = read_results(self.path, self.record)
        self.summary: Summary = _summary(self.path, self._results.files.get(SUMMARY))

    @property
    def layers(self) -> pd.DataFrame:
        """One row a layer: every number of summary.json's `layers`, nested ones with their path as a prefix.

        `describe` says what each column means.

        Raises:
            FormatError: the summary's rows are not of this kind.
        """
        try:
            return in_order(layer_table(self.summary["layers"]), LAYERS)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise FormatError(
                f"{self.path / SUMMARY}: its layers are no rows ({error!r}); start the run afresh with --force."
            ) from error

    @guarded
    def pairs(self, layer: int | None = None) -> pd.DataFrame:
        """One row a tested pair at the deciding k, of one layer or of all; `describe` says what each column means.

        Raises:
            InputError: the run has no such layer.
        """
        return in_order(self._tables("pairs", layer), PAIRS)

    @guarded
    def describe(self) -> pd.DataFrame:
        """What the columns of `layers` and `pairs()` mean, in their order: table, column, type, meaning."""
        first = int(self.summary["layers"][0]["layer"])
        return described({"layers": self.layers, "pairs": self.pairs(first)})

    @guarded
    def plot(self, name: Name) -> Any:
        """A figure of the report as an Altair chart: a notebook shows it, and it can be changed and saved.

        Args:
            name: "ladder" (pairs on every rung beside the twins), "effects" (d′ at every site), "groups" (kinds of pair
                beside the twins), "capacity" (counts against the references), "recall" (how large an AND would have been
                found), "gap" (what a layer can represent, read and compute, with the observed count).

        Raises:
            InputError: no such figure, or the run has no numbers for it.
        """
        wanted = self.summary["layers"] if name == "effects" else []
        return run_chart(name, self.summary, {row["layer"]: self.pairs(row["layer"]) for row in wanted})

    @guarded
    def top(self, layer: int | None = None, n: int = 10) -> pd.DataFrame:
        """The strongest pairs in a few readable columns, in the one order that tables and cards use.

        Args:
            layer: of one layer; None ranks all layers together.
            n: pairs shown.

        Raises:
            InputError: the run has no such layer, or `n` is below 1.
        """
        if isinstance(n, bool) or n < 1:
            raise InputError(f"n: got {n!r}, wanted a whole number ≥ 1.")
        return ranked(self.pairs(layer)).head(n)[list(TOP_COLUMNS)].reset_index(drop=True)

    @guarded
    def paths(self, layer: int | None = None) -> pd.DataFrame:
        """One row a pair and other k, of one layer or of all.

        Raises:
            InputError: the run has no such layer.
        """
        return self._tables("paths", layer)

    @guarded
    def pair(self, a: str, b: str, layer: int | None = None) -> PairDetail:
        """Look at one tested pair: quadrants, neurons, contexts, twins.

        Args:
            a: a concept, by name or, where that is clear, without quotes and spaces: prev=New for prev=" New".
            b: the other one; the order does not matter.
            layer: in this layer alone; None looks at every layer.

        Raises:
            InputError: no such concept or layer, or the pair was not tested.
            StoreError: an older version wrote the run.
        """
        return read_pair(self.path, self.pairs(layer), a, b, self._results.files, self.concepts)

    @guarded
    def at_least(self, layer: int, pairs: Any = None, *, rung: Rung = "computed") -> int:
        """At least so many of these pairs are computed, with 95 % confidence for all sets that are ever asked about.

        The set may be chosen after looking at the results, by any rule. Joint-error-rate control (Blanchard, Neuvial &
        Roquain 2020), calibrated on the layer's twins; needs 19 of them.

        Args:
            layer: of this run.
            pairs: None for all tested pairs; rows of `pairs()` (those of other layers are passed over); a boolean mask
                over the rows of `pairs(layer)` or of `pairs()`; a kind of pair such as "token × token, lag 1", or several;
                a list of (a, b).
            rung: "above_twins" bounds the pairs that stand above their null layers once relays are removed, whether or not
                their concepts' other pairs stand there as well.

        Raises:
            InputError: no such layer or rung, a pair or kind that was not tested, or nothing can be said (too few twins).
            ShapeError: a mask of another length.
        """
        table = self.pairs(layer)
        rows = self.summary["layers"]
        at = [row["layer"] for row in rows].index(layer)
        counts = [int(row["n_tested"]) for row in rows]
        return bound_of(rows[at], table, pairs, sum(counts[:at]), sum(counts), rung)

    @property
    def concepts(self) -> pd.DataFrame:
        """One row a concept: kind, lag, description, how often it holds, examples; empty for a run on arrays."""
        file = self.path / CONCEPTS
        digest = self._results.files.get(CONCEPTS)
        return store.read_table(file, digest) if digest is not None else pd.DataFrame()

    def _tables(self, kind: str, layer: int | None) -> pd.DataFrame:
        held = [row["layer"] for row in self.summary["layers"]]
        layer = as_layer(layer, held)
        chosen = held if layer is None else [layer]
        names = [f"{kind}/layer-{index:02d}.parquet" for index in chosen]
        tables = [store.read_table(self.path / name, self._results.files.get(name)) for name in names]
        for name, table in zip(names, tables, strict=True):
            missing = {"layer", "a", "b", "k", "d_prime"} - {str(column) for column in table.columns}
            if missing:
                raise FormatError(
                    f"{self.path / name}: misses columns {', '.join(sorted(missing))}; start the run afresh with --force."
                )
        return pd.concat(tables, ignore_index=True)

    @guarded
    def report(
        self, path: str | Path | None = None, *, companions: tuple[Run, ...] = (), truth: Any = None
    ) -> Path:
        """Write the HTML report.

        Args:
            path: where to put it; None: report.html in the run directory.
            companions: other runs shown beside this one, a planted circuit as the known positive, say.
            truth: the known answer of a planted model (the `Planted`, or pairs of concept names), where the run was made
                without `truth=`.

        Returns:
            The path written.

        Raises:
            InputError: `truth` is no such answer.
        """
        told = self.truth if truth is None else Truth.of(truth)
        return publish(self, None if path is None else Path(path), companions, told)

    @property
    def truth(self) -> Truth | None:
        """The known answer of a planted model, where the run was made with `truth=`.

        Raises:
            FormatError: the record holds something else.
        """
        return Truth.from_record(self.record.get("truth"))

    @guarded
    def examples(self) -> list[dict[str, Any]]:
        """The strongest pairs with their neurons and tokens, as the report shows them."""
        file = self.path / EXAMPLES
        digest = self._results.files.get(EXAMPLES)
        return store.read_json(file, digest) if digest is not None else []

    @guarded
    def export(self, folder: str | Path, *, width_mm: float | int = PAGE_MM) -> list[Path]:
        """Write figures for a paper (SVG, PDF) and tables (CSV, LaTeX) into a folder.

        Args:
            folder: made where it is not there; files of the same names are replaced.
            width_mm: the widest a figure may be, in millimetres.

        Returns:
            The paths written.

        Raises:
            InputError: a width that no page has.
            StoreError: the folder cannot be written to.
        """
        return export_run(self, folder, width_mm=width_mm)

    @guarded
    def explore(self, folder: str | Path, *, contexts: int | None = N_CONTEXTS, force: bool = False) -> Path:
        """Write the explorer: every pair in a folder of static files that a browser searches, filters, sorts and opens.

        It works on any web server and straight from the disk; nothing is fetched from elsewhere. The same run gives the
        same bytes. `probekit explore RUN` serves it, with tokens in context for every pair.

        Args:
            folder: where to; an explorer of the same run that stands there is replaced, all of it or nothing.
            contexts: how many pairs of each layer, the strongest, have their histograms and tokens in the folder; None:
                all, some 3 kB a pair.
            force: replace the explorer of another run as well; a folder that holds anything else is always refused.

        Returns:
            The page to open, index.html in the folder.

        Raises:
            InputError: `contexts` is no such number.
            StaleError: the folder holds something else, or the explorer of another run.
            StoreError: the folder cannot be written, or an older version wrote the run.
        """
        return write_explorer(self, Path(folder), contexts, force=force)

    def _repr_html_(self) -> str:
        return run_html(self.summary, str(self.path))

    def __repr__(self) -> str:
        name, n = self.summary["model"]["name"], len(self.summary["layers"])
        return f"Run({name!r}, {n} layer{'s' * (n != 1)}, {self.summary['concepts']['n_tested']} pairs, {str(self.path)!r})"


def _summary(path: Path, digest: Digest | None) -> Summary:
    summary = store.read_json(path / SUMMARY, digest)
    if not isinstance(summary, dict) or summary.get("schema") != SCHEMA:
        raise FormatError(f"{path / SUMMARY}: not a summary of {SCHEMA}; start the run afresh with --force.")
    match summary:
        case {"layers": [_, *_] as rows, "model": {"name": str()}, "concepts": {"n_tested": int()}} if all(
            isinstance(row, dict) and isinstance(row.get("layer"), int) for row in rows
        ):
            # by their digest these are the bytes that `write_results` wrote: no other key is looked at again
            return cast(Summary, summary)
        case _:
            raise FormatError(
                f"{path / SUMMARY}: its layers are no rows, or its model or concepts are not named; start the run afresh "
                "with --force."
            )


@guarded
def load(path: str | Path) -> Run:
    """Load a finished run.

    Raises:
        InputError: it is no path.
        StoreError: the folder is no run directory.
        IncompleteError: the run was not finished.
        FormatError: a newer probekit wrote it.
        CorruptError: it is not what was written.
    """
    return Run(as_folder(path))
