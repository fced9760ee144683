"""`pk.difference`, the comparison page and `probekit compare` on real runs: a planted layer against its random twin."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import probekit as pk
from probekit import cli
from probekit.errors import InputError
from probekit.followups.difference import COLUMNS, holm, records
from probekit.testing.synthetic import layer_of, make_scene, random_layer
from probekit.theory.circuits import two_and


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A layer that computes 40 ANDs of 16 concepts, and a random one, on the same tokens and pairs."""
    top = tmp_path_factory.mktemp("two")
    circuit = two_and(pairs=40, n_concepts=16, n_neurons=120, n_active=3, influence=5, seed=0)
    scene = make_scene(0, n_tokens=8_000, n_concepts=16, n_active=4, noise=0.1)
    layers = {"planted": layer_of(circuit), "random": random_layer(1, 120, 16)}
    for name, weights in layers.items():
        pk.analyze_arrays(
            weights.neurons(scene.inputs).numpy(), scene.labels, scene.doc, inputs=scene.inputs.numpy(),
            weights=(weights.w_in.numpy(), weights.b_in.numpy()), twins=6, max_pairs=120, min_support=20,
            spikes=(), controls=(), out=top / name, progress=False,
        )  # fmt: skip
    return top / "planted", top / "random"


@pytest.fixture(scope="module")
def table(folders: tuple[Path, Path]) -> pd.DataFrame:
    return pk.difference(*folders)


def test_a_planted_layer_differs_from_a_random_one(table: pd.DataFrame, folders: tuple[Path, Path]) -> None:
    assert list(table.columns) == list(COLUMNS)
    assert list(table["rung"]) == ["above_plain", "above_twins"]
    assert (table["n_pairs"] == 120).all()
    assert (table["note"] == "").all()
    assert (table["p_holm"] < 0.05).all()
    assert (table["low"] > 0).all()
    assert (table["difference"] == table["n_only_first"] - table["n_only_second"]).all()
    one, two = (pk.load(folder).pairs() for folder in folders)
    assert table["n_named_first"].tolist() == [one[rung].sum() for rung in table["rung"]]
    assert table["n_computed_second"].tolist() == [two["computed"].sum()] * 2


def test_a_run_does_not_differ_from_itself(folders: tuple[Path, Path]) -> None:
    same = pk.difference(folders[0], pk.load(folders[0]))
    assert (same["difference"] == 0).all()
    assert (same["p_holm"] == 1).all()


def test_every_twin_is_kept_with_and_without_relays(folders: tuple[Path, Path]) -> None:
    looks = pd.read_parquet(folders[0] / "pair_details" / "layer-00.parquet").set_index(["a", "b"])
    pairs = pk.load(folders[0]).pairs().set_index(["a", "b"]).loc[looks.index]
    for name in ("d_prime_twins", "d_prime_relay_twins"):
        each = np.stack(looks[name].to_list())
        assert each.shape == (120, 6)
        # one mean, taken in another order
        assert each.mean(1) == pytest.approx(pairs[name].to_numpy(float), rel=1e-12, abs=1e-12)


def test_the_page_says_so_in_a_sentence_and_a_table(folders: tuple[Path, Path], tmp_path: Path) -> None:
    page = pk.compare(list(folders), tmp_path / "both.html", names=["planted", "random"]).read_text()
    text = re.sub(r"<[^>]+>", "", page)
    assert "whether they differ is tested below" in text or "The runs differ in" in text
    assert (
        "planted and random differ in the number of pairs beyond their null layers in layer 0, above plain twins ("
        in text
    )
    assert "Counts of computed pairs are not tested." in text
    same = pk.compare([folders[0], folders[0]], tmp_path / "same.html", names=["a", "b"]).read_text()
    assert (
        "Between a and b no difference in the number of pairs beyond the null layers was shown (2 tests"
        in same
    )


def test_what_a_run_does_not_keep_is_said(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run of 0.2.0 keeps no d′ of single twins with relays removed: the other rung is tested all the same."""
    from probekit.followups import difference as module

    real = module.store.read_table

    def older(path: Path, *digest: Any) -> Any:
        return (
            real(path, *digest).drop(columns="d_prime_relay_twins", errors="ignore")
            if "pair_details" in str(path)
            else real(path, *digest)
        )

    monkeypatch.setattr(module.store, "read_table", older)
    plain, without = records(pk.difference(*folders))
    assert plain["p"] < 0.05
    assert np.isnan(without["p"])
    assert "the first and the second run keeps no d′ of single twins with relays removed" in without["note"]


def command(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["probekit", *words])
        with pytest.raises(SystemExit) as ended:
            cli.main()
    captured = capsys.readouterr()
    return int(ended.value.code or 0), captured.out, " ".join(captured.err.split())


def test_the_command(folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    planted, random = map(str, folders)
    code, out, err = command(capsys, "compare", planted, random, "--out", str(tmp_path / "c.html"))
    assert (code, err) == (0, "")
    assert "differ in the number of pairs beyond their null layers" in " ".join(out.split())
    assert (tmp_path / "c.html").exists()
    code, out, _ = command(capsys, "compare", planted, random, "--json")
    rows = json.loads(out)["others"][random]
    assert code == 0
    assert [row["rung"] for row in rows] == ["above_plain", "above_twins"]
    code, _, err = command(capsys, "compare", planted)
    assert code == 2
    assert "compare: got 1 run, wanted two or more" in err
    shutil.copytree(planted, tmp_path / "broken")
    (tmp_path / "broken" / "COMMIT.json").unlink()
    code, _, err = command(capsys, "compare", planted, str(tmp_path / "broken"))
    assert code == 3
    assert "IncompleteError" in err


def test_what_is_refused(folders: tuple[Path, Path]) -> None:
    with pytest.raises(InputError, match=r"first: got 3 \(int\), wanted probekit\.results\.run\.Run \| str"):
        pk.difference(3, folders[0])  # pyright: ignore[reportArgumentType]
    with pytest.raises(InputError, match=r"level: got 0\.7, wanted a share between 0 and 1/2"):
        pk.difference(*folders, level=0.7)


def test_holm_by_hand() -> None:
    assert holm(np.array([0.01, np.nan, 0.04, 0.03])) == pytest.approx(
        [0.03, np.nan, 0.06, 0.06], nan_ok=True
    )
    assert holm(np.array([0.9, 0.8])).tolist() == [1.0, 1.0]
