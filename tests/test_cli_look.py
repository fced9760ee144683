"""`probekit concepts` and `probekit pair` from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from command_line import run

from probekit.cli.look import pairs_asked
from probekit.errors import InputError


@pytest.fixture(scope="module")
def text_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(0)
    words = [" value", " array", " of", " the", " list", " is"]
    file = tmp_path_factory.mktemp("text") / "t.txt"
    file.write_text("<|endoftext|>".join("The" + "".join(rng.choice(words, 30)) for _ in range(140)))
    return file


def test_concepts(capsys: pytest.CaptureFixture[str], text_file: Path) -> None:
    code, out, _ = run(capsys, "concepts", "nano", "--corpus", str(text_file), "--json", "--offline")
    rows = json.loads(out)
    assert code == 0
    array = next(row for row in rows if row["name"] == 'cur=" array"')
    assert array["n_tokens"] == text_file.read_text().count("array")
    assert array["examples"][0].count("⟦ array⟧") == 1
    code, out, _ = run(
        capsys, "concepts", "nano", "--corpus", str(text_file), "--search", "array", "--kind", "token"
    )
    assert "3 concepts" in out
    assert 'prev2=" array"' in out
    code, _, err = run(capsys, "concepts", "nano", "--corpus", str(text_file), "--kind", "latent")
    assert code == 2
    assert "--kind: got 'latent', this set has class, context, token" in err


def test_pair(capsys: pytest.CaptureFixture[str], text_file: Path, tmp_path: Path) -> None:
    pairs = tmp_path / "pairs.tsv"
    pairs.write_text('prev=" value"\tcur=" array"\n\ncur=" of"\tprev=" the"\n')
    options = ("--layers", "0", "--twins", "4", "--min-support", "20", "--pairs", str(pairs), "--offline")
    code, _, err = run(
        capsys, "analyze", "nano", "--corpus", str(text_file), "--out", str(tmp_path / "r"), *options
    )
    assert code == 0, err
    code, out, _ = run(
        capsys, "pair", str(tmp_path / "r"), "prev=value", "cur=array", "--out", str(tmp_path / "p.svg")
    )
    assert code == 0
    for wanted in ("The pair in every measured layer", "A without B", "Neuron", "⟦ array⟧"):
        assert wanted in out
    assert (tmp_path / "p.svg").read_text().startswith("<svg")
    code, out, _ = run(capsys, "pair", str(tmp_path / "r"), "prev=the", "cur=of", "--json")
    values = json.loads(out)
    assert [len(values[name]) for name in ("layers", "quadrants", "twins")] == [1, 4, 4]
    code, _, err = run(capsys, "pair", str(tmp_path / "r"), "prev=the", "cur=list")
    assert code == 2
    assert "none of the 4 in tested pairs" in err
    code, _, err = run(capsys, "pair", str(tmp_path / "r"), "prev=the", "cur=of", "--layer", "3")
    assert "--layer: got 3; this run measured layers 0" in err


def test_pairs_from_a_file(tmp_path: Path) -> None:
    assert pairs_asked(None) is None
    assert pairs_asked(["stratified", "token x token"]) == ["stratified", "token x token"]
    file = tmp_path / "p.tsv"
    file.write_text("a\tb\nc\n")
    with pytest.raises(InputError, match="line 2: got 1 fields, wanted two names"):
        pairs_asked([str(file)])
    with pytest.raises(InputError, match="is a file, which is given alone"):
        pairs_asked([str(file), "support"])
