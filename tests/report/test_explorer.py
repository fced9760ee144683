"""The explorer's files: every pair with the numbers of the tables, hostile text as text, the same bytes."""

from __future__ import annotations

import base64
import itertools
import json
import re
from typing import Any

import numpy as np
import pandas as pd
import pytest
from explored import NAMES, explored

from probekit.evidence.tables import ranked
from probekit.report.explorer import FIRST, MARK, SCHEMA, Explored, explorer_files, mode
from probekit.report.in_words import sentence

TYPES = {"concept": "<i4", "word": "<i4", "int": "<i4", "real": "<f8", "flag": "u1"}


@pytest.fixture(scope="module")
def shown() -> Explored:
    return explored()


@pytest.fixture(scope="module")
def files(shown: Explored) -> dict[str, bytes]:
    return explorer_files(shown)


def arguments(script: bytes) -> list[Any]:
    """What a script of the folder hands over."""
    found = re.fullmatch(rb"explorer\.\w+\((.*)\);\n", script, flags=re.DOTALL)
    assert found is not None
    return json.loads(b"[" + found[1] + b"]")


def read_back(files: dict[str, bytes]) -> pd.DataFrame:
    """The table that the page has, read from its scripts alone."""
    meta = arguments(files["meta.js"])[0]
    held: dict[str, Any] = {}
    for name, file in files.items():
        if not name.startswith("columns/"):
            continue
        column, data, *spelt = arguments(file)
        kind = meta["columns"].get(column, {}).get("type") or meta["hidden"][column]
        values = np.frombuffer(base64.b64decode(data), TYPES[kind])
        words = (
            [concept["name"] for concept in meta["concepts"]] if kind == "concept" else (spelt or [None])[0]
        )
        held[column] = values if words is None else [words[code] for code in values]
        if kind == "flag":
            held[column] = pd.array([None if v == 2 else bool(v) for v in values], dtype="boolean")
    start, neuron, weight, share = (
        np.frombuffer(base64.b64decode(data), kind)
        for data, kind in zip(arguments(files["neurons.js"]), ("<i4", "<i4", "<f8", "<f8"), strict=True)
    )
    spans = list(itertools.pairwise(start))
    for name, values in {"neurons": neuron, "weights": weight, "contributions": share}.items():
        held[name] = [values[a:b].tolist() for a, b in spans]
    return pd.DataFrame(held)


def test_every_pair_is_there_with_the_numbers_of_the_table(files: dict[str, bytes], shown: Explored):
    held = read_back(files)
    for name in shown.pairs.columns:
        if name in ("neurons", "weights"):
            continue
        mine, wanted = held[name], shown.pairs[name]
        if wanted.dtype == "boolean":
            assert mine.equals(wanted), name  # what was not decided stays so
        else:  # to the last bit; a number that is missing is missing
            assert [m == w or (m != m and w != w) for m, w in zip(mine, wanted, strict=True)] == [True] * len(
                wanted
            )
    assert np.isnan(held["overlap"]).all()
    assert held["superposed"].isna().any()  # the control: both occur


def test_readouts_are_those_of_the_table_largest_share_first(files: dict[str, bytes], shown: Explored):
    held = read_back(files)
    for row in range(len(shown.pairs)):
        shares = held["contributions"][row]
        assert np.all(np.diff(np.abs(shares)) <= 0)
        entry = dict(zip(held["neurons"][row], zip(held["weights"][row], shares, strict=True), strict=True))
        wanted = zip(shown.pairs["weights"][row], shown.contributions[row], strict=True)
        assert entry == dict(zip(shown.pairs["neurons"][row], wanted, strict=True))


def test_what_is_added(files: dict[str, bytes], shown: Explored):
    held = read_back(files)
    assert held.sort_values("rank").index.tolist() == ranked(shown.pairs).index.tolist()
    assert held["twin_low"].tolist() == [min(row) for row in shown.twins]
    assert held["twin_high"].tolist() == [max(row) for row in shown.twins]
    row = shown.pairs.iloc[7]
    said = sentence(row.to_dict(), n_twins=20, low=min(shown.twins[7]), high=max(shown.twins[7]))
    filled = held["reading"][7].format(
        layer=row["layer"],
        d=f"{row['d_prime']:.1f}",
        low=f"{min(shown.twins[7]):.1f}",
        high=f"{max(shown.twins[7]):.1f}",
    )
    assert filled == said


def test_details_are_of_their_pair_and_the_strongest_share_a_file(shown: Explored):
    many = explored(n_pairs=120, n_detailed=60)
    files = explorer_files(many)
    held = read_back(files)
    chunks = {name: arguments(data)[0] for name, data in files.items() if name.startswith("details/")}
    assert sorted(chunks) == ["details/0000.js", "details/0001.js", "details/0002.js"]
    for row, value in many.details.items():
        assert chunks[f"details/{held['detail'][row]:04d}.js"][str(row)] == json.loads(json.dumps(value))
    assert sum(len(chunk) for chunk in chunks.values()) == len(many.details) == (held["detail"] >= 0).sum()
    first = held[held["detail"] == 0]["rank"]
    assert first.max() < held[held["detail"] == 1]["rank"].min()


def test_the_same_run_gives_the_same_bytes(files: dict[str, bytes]):
    assert explorer_files(explored()) == files
    assert explorer_files(explored(n_detailed=9)) != files  # the control


def test_no_text_becomes_markup_or_script(files: dict[str, bytes]):
    """Scripts are ASCII and hold text inside JSON strings only; the page holds the model's name escaped."""
    page = files["index.html"].decode()
    assert "<script>" not in page
    assert "model &lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;" in page
    assert re.findall(r"<script defer src=\"([^\"]*)\"></script>", page) == [
        "explorer.js", "mode.js", "meta.js", *(f"columns/{name}.js" for name in FIRST)
    ]  # fmt: skip
    for name, data in files.items():
        if name.endswith(".js") and name != "explorer.js":
            assert data.isascii()
            arguments(data)
    meta = arguments(files["meta.js"])[0]
    assert [concept["name"] for concept in meta["concepts"]][: len(NAMES)] == list(NAMES)
    program = files["explorer.js"].decode()
    for way in (
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        "new Function",
        "fetch(",
    ):
        assert way not in program


def test_nothing_is_asked_of_another_machine(files: dict[str, bytes]):
    for name, data in files.items():
        for address in (
            re.findall(rb"(?:https?:)?//[\w.-]+\.\w+[^\s\"']*", data)
            if name.endswith((".html", ".css", ".js"))
            else []
        ):
            assert address == b"http://www.w3.org/2000/svg", (
                name,
                address,
            )  # the name of a vocabulary, never asked
    assert b"default-src 'none'" in files["index.html"]


def test_every_column_has_a_heading_and_a_meaning(files: dict[str, bytes], shown: Explored):
    columns = arguments(files["meta.js"])[0]["columns"]
    assert set(columns) >= set(shown.pairs.columns) - {"neurons", "weights"}
    assert [name for name, column in columns.items() if len(column["meaning"]) < 6] == []
    labels = [column["label"] for column in columns.values()]
    assert len(set(labels)) == len(labels)


def test_the_mark_lists_the_files(files: dict[str, bytes], shown: Explored):
    record = json.loads(files[MARK])
    assert record == {"schema": SCHEMA, "identity": shown.identity, "files": sorted(files)}


def test_what_json_has_no_number_for_is_null():
    one = explored(n_layers=1, n_pairs=3, n_detailed=1)
    row = next(iter(one.details))
    details = {row: {**one.details[row], "twins": [float("nan"), 1.0]}}
    files = explorer_files(Explored(**{**vars(one), "details": details}))
    assert arguments(files["details/0000.js"])[0][str(row)]["twins"] == [None, 1.0]


def test_a_run_without_twins_concepts_or_details():
    one = explored(n_layers=1, n_pairs=5, n_detailed=0)
    bare = Explored(**{**vars(one), "twins": [[] for _ in one.twins], "concepts": pd.DataFrame()})
    held = read_back(explorer_files(bare))
    assert np.isnan(held["twin_low"]).all()
    assert all("no null layer was measured" in text for text in held["reading"])
    assert mode(on_demand=True) == b"explorer.mode(true);\n"
