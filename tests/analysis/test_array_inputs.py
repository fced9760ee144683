"""R9: NaN and infinity are counted, refused or left out, never read as a silent neuron; what the identity covers."""

# ruff: noqa: E501 - tables are read along their rows

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse

from probekit.analysis.api import analyze_arrays
from probekit.analysis.array_inputs import ActivationData
from probekit.errors import ConfigError, InputError, NonFiniteError, ShapeError

N_TOKENS, N_NEURONS, N_INPUTS = 60, 7, 4
SHARES = (0.0, 0.01, 0.1, 0.5, 1.0)


def made(seed: int) -> tuple[dict[str, Any], np.ndarray]:
    """Arrays with NaN or infinity at random places, from one to all of them; and which values of each token are bad."""
    rng = np.random.default_rng(seed)
    values = {
        "neurons": rng.random((N_TOKENS, N_NEURONS)),
        "inputs": rng.standard_normal((N_TOKENS, N_INPUTS)),
    }
    array = values["neurons" if rng.random() < 0.7 else "inputs"]
    n_bad = max(1, int(rng.choice(SHARES) * array.size))
    array.reshape(-1)[rng.permutation(array.size)[:n_bad]] = rng.choice([np.nan, np.inf, -np.inf])
    labels = rng.random((N_TOKENS, 3)) < 0.5
    docs = np.sort(rng.integers(0, 20, N_TOKENS))
    return {**values, "labels": labels, "docs": docs}, np.concatenate(
        [~np.isfinite(v) for v in values.values()], 1
    )


def check(values: dict[str, Any], nonfinite: str) -> ActivationData:
    return ActivationData.check(
        values["neurons"], values["labels"], values["docs"], values["inputs"], None, "relu", None, nonfinite
    )


@pytest.mark.parametrize("block", range(5))
def test_five_hundred_cases(block: int):
    for seed in range(100 * block, 100 * block + 100):
        values, bad = made(seed)
        with pytest.raises(
            NonFiniteError, match=rf"\b{int(bad.sum()):,} of [\d,]+ values are NaN or infinite"
        ):
            check(values, "refuse")
        kept = ~bad.any(1)
        if not kept.any():
            with pytest.raises(NonFiniteError, match="every token has an activation"):
                check(values, "drop_tokens")
            continue
        given = check(values, "drop_tokens")
        assert given.n_dropped == (~kept).sum()
        assert np.array_equal(given.neurons.numpy(), values["neurons"][kept].astype(np.float32))
        assert np.array_equal(given.labels, values["labels"][kept])
        # documents stay together and numbered without gaps
        old = values["docs"][kept]
        assert np.array_equal(given.doc[1:] != given.doc[:-1], old[1:] != old[:-1])
        assert given.doc[0] == 0
        assert set(np.diff(given.doc)) <= {0, 1}


def test_what_was_left_out_is_said(arrays: Any):
    neurons, labels, docs, inputs, weights = arrays
    spoiled = neurons.copy()
    spoiled[[5, 900, 901], [0, 3, 3]] = np.nan
    options: dict[str, Any] = {
        "inputs": inputs,
        "weights": weights,
        "twins": 0,
        "max_pairs": 5,
        "progress": False,
    }
    run = analyze_arrays(spoiled, labels, docs, nonfinite="drop_tokens", **options)
    assert run.summary["notes"][0].startswith("3 of 8,000 tokens were left out because an activation was NaN")
    kept = np.ones(8_000, bool)
    kept[[5, 900, 901]] = False
    without = analyze_arrays(neurons[kept], labels[kept], docs[kept], **{**options, "inputs": inputs[kept]})
    # positions within a document differ where one was left out, and so may the sample of tokens; here all are taken
    assert run.pairs()["n11"].equals(without.pairs()["n11"])
    assert np.allclose(run.pairs()["kappa"], without.pairs()["kappa"], rtol=1e-3)
    with pytest.raises(ConfigError, match="nonfinite: got 'ignore'"):
        analyze_arrays(neurons, labels, docs, nonfinite="ignore", **options)


def test_everything_that_matters_is_part_of_the_identity(monkeypatch: pytest.MonkeyPatch):
    values, _ = made(0)
    # arrays changed one at a time do not belong together any more
    monkeypatch.setattr("probekit.analysis.array_inputs.prove_arrays", lambda *arrays: 0.0)
    good = {
        **values,
        "neurons": np.abs(np.nan_to_num(values["neurons"], posinf=0, neginf=0)),
        "inputs": np.ones((60, 4)),
    }

    def digest(**changed: Any) -> str:
        v = {
            **good,
            "weights": (np.ones((7, 4)), np.zeros(7)),
            "activation": "relu",
            "names": None,
            **changed,
        }
        order = ("neurons", "labels", "docs", "inputs", "weights", "activation", "names")
        return ActivationData.check(*(v[name] for name in order)).digest()

    others = [
        {"neurons": good["neurons"] + 1}, {"labels": np.logical_not(good["labels"])}, {"docs": np.arange(60)},
        {"inputs": np.zeros((60, 4))},
        {"weights": (2 * np.ones((7, 4)), np.zeros(7))}, {"activation": "gelu"}, {"names": ["a", "b", "c"]},
    ]  # fmt: skip
    digests = [digest(), *(digest(**other) for other in others)]
    assert digest() == digests[0]
    assert len(set(digests)) == len(digests)


def by_hand(n_tokens: int = 400) -> dict[str, Any]:
    """Small arrays that belong together."""
    rng = np.random.default_rng(2)
    inputs, w_in = rng.standard_normal((n_tokens, 6)), rng.standard_normal((9, 6))
    return {
        "neurons": np.maximum(inputs @ w_in.T + 0.1, 0), "labels": rng.random((n_tokens, 3)) < 0.4,
        "docs": np.arange(n_tokens) // 4, "inputs": inputs, "weights": (w_in, np.full(9, 0.1)), "activation": "relu",
        "names": None,
    }  # fmt: skip


class TestArraysThatDoNotBelongTogether:
    def test_inputs_from_before_the_norm_are_refused_and_nothing_is_written(self, tmp_path: Any):
        """13 of 91 pairs of a random layer stood above their twins once."""
        given = by_hand()
        x = given["inputs"] * np.exp(np.random.default_rng(3).normal(size=(400, 1)))
        normed = (x - x.mean(1, keepdims=True)) / x.std(1, keepdims=True)
        neurons = np.maximum(normed @ given["weights"][0].T + 0.1, 0)
        options = {
            "twins": 4,
            "min_support": 2,
            "max_pairs": 3,
            "progress": False,
            "weights": given["weights"],
        }
        with pytest.raises(
            InputError, match="from before the norm: they follow from the layer norm of inputs"
        ):
            analyze_arrays(neurons, given["labels"], given["docs"], inputs=x, out=tmp_path / "run", **options)
        assert not list(tmp_path.iterdir())
        assert ActivationData.check(
            neurons, given["labels"], given["docs"], normed, given["weights"], "relu", None
        ).error == pytest.approx(0, abs=1e-5)

    def test_matrices_as_transformerlens_keeps_them(self):
        given = by_hand()
        w_in, b_in = given["weights"]
        for weights in ((w_in.T, b_in), (w_in, b_in, w_in.T, b_in)):
            with pytest.raises(
                ShapeError, match=r"weights: w_(in|gate) is 6 × 9 .* transposed; .* pass w_(in|gate)\.T"
            ):
                ActivationData.check(**{**given, "weights": weights, "inputs": None})

    def test_what_16_bits_leave_is_said(self):
        given = by_hand()
        rounded = {name: torch.tensor(given[name]).bfloat16() for name in ("neurons", "inputs")}
        assert ActivationData.check(**given).notes() == []
        (note,) = ActivationData.check(**{**given, **rounded}).notes()
        assert note.startswith("The neurons follow from inputs and weights to 0.00")
        assert "as 16-bit arithmetic gives" in note

    def test_weights_keep_the_bits_they_were_given_in(self):
        """The capacity audit counts them; 16-bit weights may give other numbers than the same in 32."""
        given = by_hand()
        halves = tuple(torch.tensor(w).bfloat16() for w in given["weights"])
        inputs = torch.tensor(given["inputs"]).float()
        neurons = torch.relu(inputs @ halves[0].float().T + halves[1].float())
        checked = [
            ActivationData.check(**{**given, "neurons": neurons, "inputs": inputs, "weights": weights})
            for weights in (
                halves,
                tuple(w.float() for w in halves),
                tuple(w.double().numpy() for w in halves),
            )
        ]
        assert [c.weights.bits for c in checked if c.weights is not None] == [16, 32, 32]
        assert checked[0].digest() != checked[1].digest() == checked[2].digest()

    def test_tokens_left_out_are_not_asked(self):
        given = by_hand()
        spoiled = given["neurons"].copy()
        spoiled[::7] = np.inf
        checked = ActivationData.check(**{**given, "neurons": spoiled}, nonfinite="drop_tokens")
        assert checked.error == pytest.approx(0, abs=1e-5)
        spoiled[1::7] += 1
        with pytest.raises(InputError, match="the neurons do not follow"):
            ActivationData.check(**{**given, "neurons": spoiled}, nonfinite="drop_tokens")


class TestForeignArrays:
    """What holds the same numbers in another way gives the same arrays."""

    def test_each_way_is_the_same(self):
        given = by_hand()
        usual = ActivationData.check(**given)
        frame = pd.DataFrame
        ways: list[dict[str, Any]] = [
            {
                "neurons": frame(given["neurons"]),
                "inputs": frame(given["inputs"]),
                "docs": pd.Series(given["docs"]),
            },
            {"weights": (frame(given["weights"][0]), pd.Series(given["weights"][1]))},
            {"labels": frame(given["labels"]).astype({0: int, 2: "boolean"}), "names": ["c0", "c1", "c2"]},
            {"labels": sparse.csr_matrix(given["labels"]), "inputs": sparse.csc_array(given["inputs"])},
            {"neurons": given["neurons"].astype(">f8"), "docs": given["docs"].astype(">i4")},
            {"neurons": given["neurons"].astype(np.longdouble), "labels": given["labels"].astype(object)},
            {"labels": torch.tensor(given["labels"]).to_sparse(), "docs": list(given["docs"])},
            {name: given[name][::-1][::-1] for name in ("neurons", "labels", "docs", "inputs")},
        ]
        for way in ways:
            assert ActivationData.check(**{**given, **way}).digest() == usual.digest(), way.keys()
        other = ActivationData.check(**{**given, "labels": frame(~given["labels"])})
        assert other.digest() != usual.digest()

    def test_a_frames_columns_name_the_concepts(self):
        given = by_hand()
        frame = pd.DataFrame(given["labels"], columns=["noun", "verb", "name"])
        assert ActivationData.check(**{**given, "labels": frame}).names == ["noun", "verb", "name"]
        assert ActivationData.check(**{**given, "labels": frame, "names": list("abc")}).names == [
            "a",
            "b",
            "c",
        ]
        twice = frame.set_axis(["noun", "noun", "name"], axis=1)
        with pytest.raises(InputError, match=r"names: got 3 \(2 different\), wanted 3 different ones"):
            ActivationData.check(**{**given, "labels": twice})

    @pytest.mark.parametrize(
        ("name", "spoil", "told"),
        [
            ("docs", lambda v: v[::-1], "docs: wanted whole numbers that never fall; sort the tokens by document"),
            ("docs", lambda v: pd.Series([f"d{i}" for i in v]), "docs: got text among the values"),
            ("labels", lambda v: pd.DataFrame(np.where(v, "yes", "no")), "labels: got text among the values"),
            ("labels", lambda v: pd.DataFrame(v, dtype="boolean").mask(v), "labels: (got a DataFrame that is no array|got values other)"),
            ("neurons", lambda v: (row for row in v), "neurons: got a generator that is no array of numbers"),
            ("neurons", lambda v: {"a": v}, "neurons: got a dict that is no array of numbers"),
            ("neurons", lambda v: np.array(v, "M8[s]"), "neurons: got a ndarray that is no array of numbers"),
        ],
    )  # fmt: skip
    def test_what_cannot_be_taken_is_one_clear_error(self, name: str, spoil: Any, told: str):
        given = by_hand()
        with pytest.raises(InputError, match=told):
            ActivationData.check(**{**given, name: spoil(given[name])})
