"""A layer that computes known ANDs loses them when its weights go, never tells more than it holds, and comes back whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import probekit as pk
from probekit.errors import ConfigError, InputError
from probekit.evidence.tables import json_rows
from probekit.followups.compression import COLUMNS
from probekit.report.compression import answer, render_compression

OPTIONS = {"twins": 6, "max_pairs": 270, "min_support": 25, "spikes": (), "controls": (), "progress": False}
LUCK = 10.0
"""Bits by which a layer tells more than it holds with a chance of 1 in 1,000."""


@pytest.fixture(scope="module")
def curve(planted: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    out = tmp_path_factory.mktemp("curve")
    before = {name: value.clone() for name, value in planted.model.state_dict().items()}
    found = pk.compression_curve(
        planted.model, planted.corpus, layer=0, concepts=planted.concepts, truth=planted, keep=(0.1,), bits=(4,),
        loss_tokens=4_000, out=out, **OPTIONS,
    )  # fmt: skip
    after = planted.model.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    return found


def test_what_is_planted_survives_four_bits_and_not_a_tenth_of_the_weights(curve: Any) -> None:
    steps = curve.steps.set_index("step")
    assert list(curve.steps["step"]) == ["whole", "keep 10%", "4 bits"]
    assert steps["n_above_twins"]["whole"] >= 12
    # all weights of the plant are alike, and 15 levels hold one value exactly
    assert (
        steps["still_above"]["4 bits"] == steps["n_above_twins"]["4 bits"] == steps["n_above_twins"]["whole"]
    )
    assert steps["d_prime_correlation"]["4 bits"] > 0.999
    # twelve weights are left of twelve pairs of ten: no neuron reads two concepts any more, bar accidents
    assert steps["n_above_twins"]["keep 10%"] <= 1
    assert steps["d_prime_correlation"]["keep 10%"] < 0.6


def test_no_layer_tells_more_than_it_holds(curve: Any) -> None:
    steps = curve.steps
    assert (steps["bits_recovered"] <= steps["bits_described"] + LUCK).all()
    assert steps["bits_recovered"].iloc[0] > 30, "the test could fail: the whole layer tells much"
    assert (
        steps["bits_described"].is_monotonic_decreasing
        or steps["bits_described"].iloc[0] > steps["bits_described"].max() - 1
    )
    whole = steps.iloc[0]
    assert whole["params_needed"] == pytest.approx(whole["n_computed"] * np.log(whole["n_computed"]))
    assert whole["loss_change"] == 0
    assert (steps["n_tested"] == whole["n_tested"]).all()


def test_its_table_page_and_record(curve: Any, tmp_path: Path) -> None:
    assert list(curve.steps.columns) == list(COLUMNS) == list(curve.describe()["column"])
    page = curve.report(tmp_path / "page.html").read_text()
    assert page == render_compression(curve), "same input, same bytes"
    assert "4 bits" in page
    assert "The answer is known here" in page
    assert "src=" not in page
    asked, found, _ = answer(curve)
    assert "2\u202f304 weights" in asked
    assert "is the smallest that left half of them" in found
    assert repr(curve).startswith("CompressionCurve(planted-two_and/low, layer 0: 3 steps, ")
    assert curve._repr_html_().startswith("<p>")
    assert json.loads(json.dumps(json_rows(curve.steps)))[0]["step"] == "whole"
    assert set(curve.plot().to_dict()) >= {"hconcat"}


def test_a_curve_that_was_stopped_goes_on(curve: Any, planted: Any, tmp_path: Path) -> None:
    folder = tmp_path / "again"
    options = {**OPTIONS, "concepts": planted.concepts, "loss_tokens": 0, "twins": 4, "max_pairs": 40}
    first = pk.compression_curve(
        planted.model, planted.corpus, layer=0, keep=(), bits=(1,), out=folder, **options
    )
    held = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    assert {path.relative_to(folder).parts[0] for path in held} == {"00-whole", "01-1-bit"}
    second = pk.compression_curve(
        planted.model, planted.corpus, layer=0, keep=(), bits=(1,), out=folder, **options
    )
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()} == held
    assert first.steps.equals(second.steps)
    assert first.steps["loss"].isna().all()
    assert first.steps["bits_recovered"].isna().all()
    assert json_rows(first.steps)[0]["loss"] is None
    assert "layer" in first.plot().to_dict()


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"keep": (0.0,)}, ConfigError, r"keep: got 0.0, wanted shares above 0 and at most 1"),
        ({"keep": (), "bits": ()}, ConfigError, "keep, bits, formats: got no step"),
        (
            {"loss_tokens": -1},
            ConfigError,
            "loss_tokens: got -1, wanted a whole number; 0 leaves the loss out",
        ),
        ({"bits": (0,)}, ConfigError, "bits: got 0, wanted whole numbers of at least 1"),
        ({"formats": ("Q4_K",)}, ConfigError, "format: got 'Q4_K'; the gguf package writes F32, F16, Q4_0"),
        ({"layers": [0]}, ConfigError, "layers: a compression curve sets this itself"),
        ({"layer": 7}, InputError, "got layer 7"),
    ],
)
def test_what_cannot_be_used_is_refused(
    planted: Any, change: dict[str, Any], error: Any, message: str
) -> None:
    options = {"layer": 0, "concepts": planted.concepts, **OPTIONS, **change}
    with pytest.raises(error, match=message) as caught:
        pk.compression_curve(planted.model, planted.corpus, **options)
    assert type(caught.value) is error
