"""`probekit capacity --gap` and `probekit channels`: what they print, and how they fail."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from command_line import run

from probekit.theory import bounds


def test_the_gap_is_printed_and_drawn(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "gap.svg"
    sizes = ("capacity", "--d-model", "768", "--d-mlp", "3072", "--concepts", "10000", "--active", "4")
    code, out, _ = run(capsys, *sizes, "--gap", "--svg", str(file), "--json")
    assert code == 0
    levels = {level["key"]: level for level in json.loads(out)["gap"]}
    wanted = bounds.gap(3072, 768, n_active=4, n_concepts=10_000)
    assert set(levels) == {level.key for level in wanted.levels}
    assert levels["two_and_low"]["features"] == pytest.approx(wanted["two_and_low"].features)
    assert ElementTree.fromstring(file.read_text(encoding="utf-8")).tag.endswith("svg")
    code, out, _ = run(capsys, *sizes, "--gap")
    assert code == 0
    assert "linear readouts, d^1.5" in out
    assert "every linear readout with slope 1" in out
    code, out, _ = run(capsys, *sizes, "--json")
    assert "gap" not in json.loads(out)


def test_levels_beyond_a_float_are_null_with_their_logarithm(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run(
        capsys, "capacity", "--d-model", "30000", "--d-mlp", "64", "--concepts", "100", "--gap", "--json"
    )
    levels = {level["key"]: level for level in json.loads(out)["gap"]}
    assert levels["jl_reading"]["features"] is None
    assert levels["jl_reading"]["log10"] > 500


def test_channels_of_the_bundled_model(capsys: pytest.CaptureFixture[str]) -> None:
    words = ("channels", "nano", "--layer", "0", "--most", "12", "--max-tokens", "2000", "--twins", "3")
    code, out, _ = run(capsys, *words, "--directions", "tokens", "--json")
    assert code == 0
    values = json.loads(out)
    assert (values["n_concepts"], values["n_tests"]) == (12, 3 * 66)
    assert 0 < values["smallest_p"] <= 1
    code, out, _ = run(capsys, *words)
    assert code == 0
    assert "of 198 tests" in " ".join(out.split())


def test_wrong_options_are_refused_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, told = run(capsys, "channels", "nano", "--layer", "0", "--directions", "sae")
    assert (code, "--directions: got 'sae', wanted measured or tokens" in told) == (2, True)
    code, _, told = run(capsys, "channels", "nano", "--layer", "9")
    assert (code, "got layer 9" in told) == (2, True)
