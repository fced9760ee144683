"""`probekit audit`: what it takes for a claim, what it refuses, and that it prints the verdicts."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from command_line import run
from safetensors.numpy import save_file

from probekit.cli.audit import _claim
from probekit.errors import ConfigError, InputError


def test_pairs_and_directions_are_read(tmp_path: Path) -> None:
    assert _claim(["a & b", "c:x & d"], None, None) == ([("a", "b"), ("c:x", "d")], None)
    file = tmp_path / "directions.safetensors"
    save_file({"one": np.ones(4, np.float32), "more": np.eye(4, dtype=np.float32)[:2]}, file)
    rows, names = _claim([], file, None)
    assert names == ["more 0", "more 1", "one"]
    assert rows.tolist() == [[1, 0, 0, 0], [0, 1, 0, 0], [1, 1, 1, 1]]
    save_file({"one": np.ones(4, np.float32), "two": np.ones(3, np.float32)}, file)
    with pytest.raises(ConfigError, match="holds tensors of 2 widths, wanted one"):
        _claim([], file, None)
    with pytest.raises(InputError, match="nowhere"):
        _claim([], tmp_path / "nowhere", None)
    for pairs, dictionary in (([], None), (["a & b"], Path("x"))):
        with pytest.raises(ConfigError, match="wanted one of --pair, --directions and --dictionary"):
            _claim(pairs, None, dictionary)
    with pytest.raises(ConfigError, match="--pair: got 'a b', wanted two concepts"):
        _claim(["a b"], None, None)


def test_what_it_says_where_it_cannot(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, said = run(capsys, "audit", "nano", "--layer", "1")
    assert code == ConfigError.exit_code
    assert "claim: wanted one of --pair, --directions and --dictionary" in said
    code, _, said = run(capsys, "audit", "nano", "--dictionary", "nowhere", "--latents", "x")
    assert code == ConfigError.exit_code
    assert "--latents: got 'x', wanted whole numbers" in said


@pytest.mark.slow
def test_verdicts_are_printed(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    page = tmp_path / "audit.html"
    options = ("--twins", "4", "--max-tokens", "20000", "--min-support", "20", "--json", "--quiet")
    pair = ("--pair", "cur:word-start & prev:full-stop", "--out", str(page))
    code, out, _ = run(capsys, "audit", "nano", "--layer", "1", *pair, *options)
    assert code == 0
    held = json.loads(out)
    assert held["summary"]["n_claims"] == 1
    assert held["claims"][0]["verdict"] == "not above its null layers"
    assert "Claim by claim" in page.read_text()
