"""The explorer: every tested pair of a run as a folder of static files that a browser searches by itself.

Numbers lie in one script a column (`columns/NAME.js`: base64 of little-endian values, those of the table to the last bit),
because a page opened from a disk may load scripts and nothing else. Concepts, meanings and headings lie in `meta.js`,
readouts in `neurons.js`, what was kept of single pairs (histograms, null layers, tokens in context) in `details/NNNN.js`.

Text of tokens and names of concepts may hold anything: scripts hold it as ASCII JSON, the page sets it as text, never as
markup. Same input, same bytes. Axes: pair (all layers, in the order of `run.pairs()`), entry (neurons of all readouts).
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from probekit.evidence.columns import PAIRS
from probekit.evidence.summary import Summary
from probekit.evidence.tables import ranked
from probekit.report import glossary, words
from probekit.report.environment import environment
from probekit.report.in_words import context, reading
from probekit.report.pair import QUADRANTS
from probekit.report.strongest import verdict

SCHEMA = "probekit.explorer/1"
MARK = "explorer.json"
"""The file that says what the folder is, whose run it shows, and which files belong to it."""
CHUNK = 50
"""Pairs in one file of details: opened with the first of them."""
LABELS = {
    "layer": "Layer", "a": "A", "b": "B", "kind": "Kind", "verdict": "Rung", "rank": "Strength", "d_prime": "d′",
    "d_prime_twins": "Null layers’ d′", "d_prime_relay": "d′ without relay",
    "d_prime_relay_twins": "Null layers’ without relay", "q_above": "q above", "q": "q", "p_twin": "p twin",
    "p_relay": "p relay", "p_pair": "p pair", "p_decision": "p decision",
    "kappa": "κ", "kappa_se": "κ, s.e.", "eps95": "ε95", "d_prime_input": "Input d′", "d_prime_pre": "Pre-act. d′",
    "participation": "Effective neurons", "shape": "Looks like", "d_prime_linear": "Linearised d′",
    "d_balanced": "Balanced d′", "best_neuron_d_prime": "Best neuron’s d′", "mean11": "Mean, A and B",
    "mean10": "Mean, A alone", "mean01": "Mean, B alone", "mean00": "Mean, neither", "n11": "Tokens, A and B",
    "n10": "Tokens, A alone", "n01": "Tokens, B alone", "n00": "Tokens, neither", "k": "Neurons k",
    "twin_low": "Null layers’ lowest d′", "twin_high": "Null layers’ highest d′", "n_twins": "Null layers",
    "above_plain": "Above plain twins", "above_twins": "Above twins", "represented": "ε-represented",
    "superposed": "In superposition", "p_vs_linear": "p linear", "z": "z", "decidable": "ε decidable",
}  # fmt: skip
"""Column → heading; the others stand under the name that they have in the tables."""
MEANINGS = {
    "d_prime_twins": "Mean of d′ of the same pair in the null layers.",
    "d_prime_relay_twins": "Mean of d′ without relay in the null layers.",
    "p_decision": "The larger of p relay and p pair, on which the pair is decided.",
    "p_vs_linear": "p-value of being no better than a linear readout of the same budget; decides nothing.",
}
"""Meanings that can stand alone, where those of the tables speak of the column before."""
ADDED = {
    "verdict": "The furthest step of evidence that the pair reaches.",
    "rank": "Place among all pairs of the run, strongest first: by p decision, then by z.",
    "twin_low": "The smallest d′ of the same pair in a null layer.",
    "twin_high": "The largest d′ of the same pair in a null layer.",
    "n_twins": "Null layers that the pair was set against.",
}
"""Columns that the explorer adds to those of the tables, with their meaning."""
SHOWN = (
    "layer", "a", "b", "kind", "verdict", "d_prime", "d_prime_twins", "d_prime_relay", "d_prime_relay_twins", "q_above", "q"
)  # fmt: skip
"""Columns of the list."""
RUNGS = ("represented", "above_plain", "relayed", "above_twins", "computed", "superposed")
"""Flags of a pair that are rungs of the ladder, as `words.RUNGS` counts them."""
FIRST = (*SHOWN, "rank", *RUNGS)
"""Columns that the page needs before it can draw; the others are loaded when they are first wanted."""
_HIDDEN = {"reading": "", "detail": ""}


@dataclass(frozen=True)
class Explored:
    """What an explorer shows of a run. Axes: pair."""

    summary: Summary
    """summary.json."""
    identity: str
    """Of the run."""
    pairs: pd.DataFrame
    """One row a tested pair of any layer: the columns of `run.pairs()`."""
    contributions: Sequence[Sequence[float]]
    """Share of κ of each neuron of a pair's readout, in the order of `neurons` [pair]."""
    twins: Sequence[Sequence[float]]
    """d′ of the same pair in every null layer [pair]."""
    concepts: pd.DataFrame
    """One row a concept; empty for a run on arrays."""
    details: Mapping[int, Mapping[str, Any]]
    """What was kept of single pairs, by row of `pairs`: see `detail`."""


def explorer_files(shown: Explored) -> dict[str, bytes]:
    """The folder: name → bytes.

    Args:
        shown: the run.
    """
    table = _table(shown)
    names = _names(shown)
    columns = _columns(table)
    files: dict[str, bytes] = {
        "index.html": _page(shown),
        "explorer.css": f"{_source('report.css')}\n{_source('explorer.css')}".encode(),
        "explorer.js": f"{_source('explorer.js')}\n{_source('page.js')}".encode(),
        "mode.js": mode(on_demand=False),
        "meta.js": _call("meta", _meta(shown, names, columns)),
        "neurons.js": _neurons(table, shown.contributions),
    }
    place = {name: index for index, name in enumerate(names)}
    for name, kind in columns.items():
        files[f"columns/{name}.js"] = _call("column", name, *_packed(table[name], kind, place))
    chunks = sorted({int(chunk) for chunk in table["detail"] if chunk >= 0})
    for chunk in chunks:
        rows = table.index[table["detail"] == chunk]
        held = {str(row): shown.details[int(row)] for row in rows}
        files[f"details/{chunk:04d}.js"] = _call("details", held)
    record = {"schema": SCHEMA, "identity": shown.identity, "files": sorted([*files, MARK])}
    files[MARK] = (json.dumps(record, indent=1, sort_keys=True) + "\n").encode()
    return files


def detail(
    twins: Sequence[float], quadrants: Sequence[Mapping[str, Any]], contexts: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """What the page shows of one pair beside its numbers: the readout in each quadrant, its null layers, its tokens.

    Args:
        twins: d′ of the same pair in every null layer.
        quadrants: one entry a quadrant: quadrant, n_sampled, low, high, counts of its histogram.
        contexts: one entry a token: quadrant, before, token, after, value.
    """  # fmt: skip
    texts: dict[str, list[list[Any]]] = {key: [] for key in QUADRANTS}
    for item in contexts:
        part = context(item)
        texts[str(item["quadrant"])].append(
            [part["before"], part["token"], part["after"], float(item["value"])]
        )
    return {
        "twins": [float(d) for d in twins],
        "low": float(quadrants[0]["low"]),
        "high": float(quadrants[0]["high"]),
        "counts": {str(part["quadrant"]): [int(n) for n in part["counts"]] for part in quadrants},
        "contexts": texts,
    }


def detail_script(row: int, held: Mapping[str, Any]) -> bytes:
    """One pair's details as the script that a page asks for on demand.

    Args:
        row: of the pairs.
        held: its `detail`.
    """
    return _call("details", {str(row): held})


def mode(*, on_demand: bool) -> bytes:
    """The script that says whether somebody answers for pairs whose details lie in no file."""
    return _call("mode", on_demand)


def _page(shown: Explored) -> bytes:
    model, corpus = shown.summary["model"], shown.summary["corpus"]
    layers = [str(row["layer"]) for row in shown.summary["layers"]]
    n_tokens = sum(int(corpus.get(f"n_tokens_{half}") or 0) for half in ("fit", "confirm"))
    page = {
        "title": f"{model['name']}: pairs explored",
        "name": str(model["name"]),
        "about": " · ".join(
            [
                str(corpus.get("name") or "arrays"),
                *([words.plural(n_tokens, "token")] if n_tokens else []),
                f"{'layer' if len(layers) == 1 else 'layers'} {words.listed(layers)}",
                words.plural(len(shown.pairs), "tested pair"),
            ]
        ),
        "first": FIRST,
    }
    return environment().get_template("explorer.html").render(page).encode("utf-8", "replace")


def _table(shown: Explored) -> pd.DataFrame:
    """The pairs with the explorer's own columns."""
    table = shown.pairs.reset_index(drop=True).copy()
    rank = np.empty(len(table), np.int32)
    rank[ranked(table).index.to_numpy()] = np.arange(1, len(table) + 1)
    rows = table.to_dict("records")
    n_twins = [len(held) for held in shown.twins]
    table["rank"] = rank
    table["verdict"] = [verdict(row) for row in rows]
    table["twin_low"] = [min(held, default=np.nan) for held in shown.twins]
    table["twin_high"] = [max(held, default=np.nan) for held in shown.twins]
    table["n_twins"] = np.array(n_twins, np.int32)
    table["reading"] = [reading(row, n_twins=n, ranged=n > 0) for row, n in zip(rows, n_twins, strict=True)]
    chunk = np.full(len(table), -1, np.int32)
    # strongest first, so that pairs opened one after another share a file
    for place, row in enumerate(sorted(shown.details, key=lambda row: int(rank[row]))):
        chunk[row] = place // CHUNK
    table["detail"] = chunk
    return table


def _names(shown: Explored) -> list[str]:
    """Every concept once: those of the run's list in its order, then those that only pairs name."""
    listed = [str(name) for name in shown.concepts["name"]] if len(shown.concepts) else []
    named = pd.unique(pd.concat([shown.pairs["a"], shown.pairs["b"]], ignore_index=True))
    return list(dict.fromkeys([*listed, *map(str, named)]))


def _columns(table: pd.DataFrame) -> dict[str, str]:
    """Column → how its values are packed."""
    return {
        str(name): _kind(str(name), table[name])
        for name in table.columns
        if name not in ("neurons", "weights")
    }


def _kind(name: str, values: pd.Series) -> str:
    if name in ("a", "b"):
        return "concept"
    if pd.api.types.is_bool_dtype(values.dtype):
        return "flag"
    if pd.api.types.is_integer_dtype(values.dtype):
        return "int" if len(values) == 0 or int(values.abs().max()) < 2**31 else "real"
    return "real" if pd.api.types.is_float_dtype(values.dtype) else "word"


def _packed(values: pd.Series, kind: str, place: Mapping[str, int]) -> list[Any]:
    """A column as base64, and the words that its numbers stand for."""
    if kind == "concept":
        return [_base64(np.array([place[str(name)] for name in values], "<i4"))]
    if kind == "flag":  # 2: not decided
        return [_base64(values.astype("boolean").astype("UInt8").fillna(2).to_numpy("u1"))]
    if kind == "int":
        return [_base64(values.to_numpy("<i4"))]
    if kind == "real":
        return [_base64(values.to_numpy("<f8", na_value=np.nan))]
    held = ["" if value is None or value is pd.NA else str(value) for value in values]
    spelt = list(dict.fromkeys(held))
    codes = {word: index for index, word in enumerate(spelt)}
    return [_base64(np.array([codes[word] for word in held], "<i4")), spelt]


def _neurons(table: pd.DataFrame, contributions: Sequence[Sequence[float]]) -> bytes:
    """The readouts, the neuron that carries most of the contrast first."""
    sizes = np.array([len(row) for row in table["neurons"]], np.int64)
    parts: list[list[np.ndarray]] = [[], [], []]
    for neurons, weights, shares in zip(table["neurons"], table["weights"], contributions, strict=True):
        order = np.argsort(-np.abs(np.asarray(shares, float)), kind="stable")
        for part, values in zip(parts, (neurons, weights, shares), strict=True):
            part.append(np.asarray(values)[order])
    start = np.concatenate([[0], np.cumsum(sizes)])
    neuron, weight, share = (
        np.concatenate([np.zeros(0), *part]).astype(kind)
        for part, kind in zip(parts, ("<i4", "<f8", "<f8"), strict=True)
    )
    return _call("neurons", _base64(start.astype("<i4")), _base64(neuron), _base64(weight), _base64(share))


def _meta(shown: Explored, names: Sequence[str], columns: Mapping[str, str]) -> dict[str, Any]:
    described = {str(row["name"]): row for row in shown.concepts.to_dict("records")}
    flags = {f"n_{flag}": flag for flag in RUNGS}
    in_order = [
        *(name for name in ADDED if name in columns),
        *(name for name in columns if name not in ADDED),
    ]
    return {
        "n": len(shown.pairs),
        "layers": [int(row["layer"]) for row in shown.summary["layers"]],
        "concepts": [_concept(name, described.get(name)) for name in names],
        "columns": {
            name: {"type": columns[name], "label": _label(name), "meaning": _meaning(name), "show": _show(name)}
            for name in in_order
            if name not in _HIDDEN
        },
        "hidden": {name: columns[name] for name in _HIDDEN},
        "shown": list(SHOWN),
        "first": list(FIRST),
        "rungs": [[flags[key], label, meaning] for key, label, meaning in words.RUNGS if key in flags],
        "quadrants": [list(entry) for entry in QUADRANTS.items()],  # a script would put the key 10 before 11
        "terms": {label: glossary.column(label) for label in ("Weight", "Share")},
        "n_detailed": len(shown.details),
    }  # fmt: skip


def _label(name: str) -> str:
    return LABELS.get(name) or name.replace("_", " ").capitalize()


def _meaning(name: str) -> str:
    """What a column means: the report's words where it has any, else those of the tables."""
    label = _label(name)
    told = ADDED.get(name) or MEANINGS.get(name) or glossary.column(label) or PAIRS.get(name, "")
    return f"{told[:1].upper()}{told[1:]}{'' if told.endswith('.') or not told else '.'}"


def _show(name: str) -> str:
    """How a real number is spelled."""
    return "probability" if name.startswith(("p_", "q")) else "share" if name == "inclusion" else "real"


def _concept(name: str, row: Mapping[Any, Any] | None) -> dict[str, Any]:
    if row is None:
        return {"name": name, "kind": "", "meaning": "", "n_tokens": None, "n_docs": None, "examples": []}
    told = words.visible(str(row["description"]))
    return {
        "name": name,
        "kind": str(row["kind"]),
        "meaning": "" if told == name else told,
        "n_tokens": int(row["n_tokens"]),
        "n_docs": int(row["n_docs"]),
        "examples": [words.visible(str(text)) for text in row["examples"]],
    }


def _source(name: str) -> str:
    made = environment()
    return str(made.loader.get_source(made, name)[0])


def _base64(values: np.ndarray) -> str:
    return base64.b64encode(values.tobytes()).decode()


def _call(function: str, *arguments: Any) -> bytes:
    """A script that hands values to the page; what JSON has no number for becomes null."""
    spelt = ",".join(json.dumps(_finite(value), ensure_ascii=True, allow_nan=False) for value in arguments)
    return f"explorer.{function}({spelt});\n".encode()


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    return value
