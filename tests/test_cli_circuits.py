"""`probekit circuits`: what it lists, what it measures, how it fails."""

from __future__ import annotations

import json

import pytest
from command_line import run

from probekit.theory.catalogue import CONSTRUCTIONS, build
from probekit.theory.measure import measure


def test_lists_every_construction_in_a_line(capsys: pytest.CaptureFixture[str]):
    code, out, _ = run(capsys, "circuits")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == list(CONSTRUCTIONS)


@pytest.mark.parametrize("name", list(CONSTRUCTIONS))
def test_measures_every_construction(capsys: pytest.CaptureFixture[str], name: str):
    sizes = ("--n", "128", "--m", "24", "--inputs", "200", "--seed", "3")
    code, out, err = run(capsys, "circuits", "measure", name, *sizes, "--json")
    assert code == 0, err
    values = json.loads(out)
    circuit = build(name, n_neurons=128, n_concepts=24, seed=3)
    direct = measure(circuit, n_inputs=200, seed=3)
    assert [row["sd"] for row in values["patterns"]] == direct.sd.tolist()
    assert [row["predicted_sd"] for row in values["patterns"]] == circuit.predicted_sd.tolist()
    assert values["eps95"] == direct.eps95
    assert (values["name"], values["n_active"], values["n_inputs"], values["seed"]) == (name, 3, 200, 3)


def test_predicted_and_measured_agree_in_every_quadrant(capsys: pytest.CaptureFixture[str]):
    code, out, _ = run(
        capsys,
        "circuits",
        "measure",
        "dense-uand",
        "--n",
        "512",
        "--m",
        "200",
        "--s",
        "3",
        "--pairs",
        "500",
        "--json",
    )
    rows = json.loads(out)["patterns"]
    assert code == 0
    assert [row["pattern"] for row in rows] == ["11", "10", "01", "00"]
    for row in rows:
        # 2,000 inputs: an sd is known to 1.6 %, what is promised is 10 %
        assert row["sd"] == pytest.approx(row["predicted_sd"], rel=0.1)


def test_the_table_and_what_has_no_prediction(capsys: pytest.CaptureFixture[str]):
    code, out, _ = run(
        capsys,
        "circuits",
        "measure",
        "two-and-low",
        "--n",
        "64",
        "--m",
        "32",
        "--d-model",
        "64",
        "--inputs",
        "100",
    )
    assert code == 0
    assert "32 outputs of 32 concepts in 64 neurons, inputs superposed in 64 dimensions" in " ".join(
        out.split()
    )
    assert "ε95" in out
    # with two concepts on, a third pattern has no input to be drawn for a prediction of one more
    code, out, _ = run(
        capsys, "circuits", "measure", "two-and-low", "--n", "64", "--m", "32", "--s", "2", "--inputs", "1"
    )
    assert code == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("tow-and", "--n", "64", "--m", "32"), "got 'tow-and', wanted one of sparse-uand, dense-uand"),
        (("two-and-low", "--n", "0", "--m", "32"), "n_neurons: got 0"),
        (("two-and-low", "--n", "64", "--m", "1"), "n_concepts: got 1"),
        (("two-and-low", "--n", "64", "--m", "8", "--s", "9"), "n_active: got 9"),
        (("two-and-low", "--n", "64", "--m", "8", "--pairs", "29"), "pairs"),
        (("two-and-low", "--n", "64", "--m", "8", "--inputs", "0"), "n_inputs: got 0"),
        (("two-and-low", "--n", "64", "--m", "8", "--seed", "-1"), "seed: got -1"),
        (("dense-uand", "--n", "64", "--m", "8", "--d-model", "0"), "d_model: got 0"),
    ],
)
def test_errors_are_one_message_and_a_code(
    capsys: pytest.CaptureFixture[str], words: tuple[str, ...], message: str
):
    code, _, err = run(capsys, "circuits", "measure", *words)
    assert code == 2
    assert "InputError" in err
    assert message in err
    assert "Traceback" not in err
