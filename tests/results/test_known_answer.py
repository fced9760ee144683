"""A planted model's answer travels with the run into its report, and changes no number."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import probekit as pk
from probekit.errors import InputError
from probekit.evidence.truth import Truth
from probekit.storage.digest import Digest

SMALL: dict[str, Any] = {
    "twins": 0, "controls": (), "spikes": (), "min_support": 20, "max_pairs": 28, "progress": False
}  # fmt: skip


@pytest.fixture(scope="module")
def small() -> Any:
    circuit = pk.circuits.two_and(pairs=4, n_concepts=8, n_neurons=16, n_active=2, seed=3)
    return pk.plant(circuit, n_docs=100, doc_len=20, noise=0.1, seed=1)


def text_of(page: Path) -> str:
    return re.sub(r"<[^>]+>", "", page.read_text())


def test_the_report_holds_the_finds_against_the_answer(
    planted_run: pk.Run, planted: Any, tmp_path: Path
) -> None:
    pairs = planted_run.pairs(0)
    above = pairs["above_twins"].astype(bool)
    names = zip(pairs["a"], pairs["b"], strict=True)
    hits = above & pd.Series([name in set(planted.truth) for name in names])
    assert hits.sum() >= 6  # the control: there is something to be told
    told = text_of(planted_run.report(tmp_path / "known.html", truth=planted))
    assert (
        f"{hits.sum()} of 12 planted pairs tested stand above the null layers (recall {100 * hits.sum() / 12:.0f}"
        in told
    )
    assert f"(precision {100 * hits.sum() / above.sum():.0f}" in told
    assert re.search(r"planted AND no\. \d+", told)
    assert "planted AND no." not in text_of(planted_run.report(tmp_path / "unknown.html"))


def test_the_answer_is_kept_in_the_record_and_is_no_part_of_the_numbers(small: Any, tmp_path: Path) -> None:
    def analyzed(name: str, **options: Any) -> pk.Run:
        return pk.analyze(
            small.model, small.corpus, concepts=small.concepts, out=tmp_path / name, **SMALL, **options
        )

    known, plain = analyzed("known", truth=small), analyzed("plain")
    assert pk.load(known.path).truth == Truth.of(small)
    assert plain.truth is None
    assert "truth" not in plain.record
    assert known.record["identity"] == plain.record["identity"]
    for file in ("summary.json", "pairs/layer-00.parquet", "examples.json"):
        assert Digest.of((known.path / file).read_bytes()) == Digest.of((plain.path / file).read_bytes())
    assert "planted AND no." in text_of(known.path / "report.html")
    assert "planted AND no." not in text_of(plain.path / "report.html")
    # as a companion it brings its answer along
    assert "a model whose answer is known" in text_of(
        plain.report(tmp_path / "both.html", companions=(known,))
    )


def test_what_is_no_answer_is_refused_before_anything_is_done(small: Any, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"truth: got 3, wanted a planted model"):
        pk.analyze(small.model, small.corpus, concepts=small.concepts, out=tmp_path / "no", truth=3, **SMALL)
    assert not (tmp_path / "no").exists()
