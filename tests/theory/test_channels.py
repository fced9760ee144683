"""The channel decoder finds planted circuits, is silent on layers that compute no pair, and its programs are run."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import probekit as pk
from probekit.errors import InputError, ShapeError
from probekit.evidence.channels import agreement, measured_pairs
from probekit.model.weights import MlpWeights
from probekit.theory.channels import Channels, channels
from probekit.theory.circuits import gaussian_uand, two_and


def joined(found: Channels, gate: str = "and") -> set[tuple[int, int]]:
    return {(min(s["a"], s["b"]), max(s["a"], s["b"])) for s in found.sets if s["gate"] == gate}


@pytest.mark.parametrize(("n", "m", "pairs", "d"), [(256, 128, 128, None), (512, 192, 192, 512)])
def test_a_planted_circuit_is_decoded(n: int, m: int, pairs: int, d: int | None) -> None:
    """Nearly all pairs and hardly another, on superposed inputs as well."""
    circuit = two_and(pairs=pairs, n_concepts=m, n_neurons=n, d_model=d, seed=0)
    found = pk.channels(circuit, circuit.encode, twins=10)
    true = {tuple(pair) for pair in np.sort(circuit.pairs, axis=1).tolist()}
    got = joined(found)
    assert len(true & got) / len(true) >= 0.95
    assert len(true & got) / len(got) >= 0.95
    # the neurons of a found pair are those of its channel, where the inputs leave no doubt
    if d is None:
        reads = {
            tuple(p): set(np.flatnonzero(r).tolist())
            for p, r in zip(circuit.pairs.tolist(), circuit.readoff, strict=True)
        }
        for one in found.sets:
            if (one["a"], one["b"]) in reads:
                # a neuron that reads many other concepts may not count as reading these two
                assert len(reads[one["a"], one["b"]] & set(one["neurons"])) >= 2


def test_the_program_is_the_circuit_and_the_layer_does_what_it_says() -> None:
    circuit = two_and(pairs=24, n_concepts=48, n_neurons=192, influence=1, seed=1)
    program = channels(circuit, circuit.encode, twins=20).program
    assert {(clause.a, clause.b) for clause in program.clauses} == {
        tuple(pair) for pair in circuit.pairs.tolist()
    }
    rng = np.random.default_rng(0)
    on = rng.random((400, 48)).argsort(axis=1) < 3
    for row, (a, b) in enumerate(circuit.pairs.tolist() * 4):
        on[row] = False
        on[row, [a, b, int(rng.integers(48))]] = True
    order = [
        next(i for i, p in enumerate(circuit.pairs.tolist()) if tuple(p) == (c.a, c.b))
        for c in program.clauses
    ]
    assert (program.run(on) == circuit.truth(on)[:, order]).all()
    told = program.against(on)
    assert told["n_true"].min() >= 4
    assert told[["wrong_true", "wrong_false"]].to_numpy().max() <= 0.02
    assert str(program).splitlines()[0].count("∧") == 1
    # the control: the same program against a layer whose neurons are dealt out anew does not come true
    shuffled = {"w_in": circuit.w_in[rng.permutation(192)], "b_in": circuit.b_in}
    from dataclasses import replace

    from probekit.theory.channels.layer import as_layer

    other = replace(program, layer=as_layer(shuffled)).against(on)
    assert other["wrong_true"].mean() > 0.3


def hand_made(gate: str, *, gated: bool = False) -> tuple[dict[str, object], set[tuple[int, int]]]:
    """Ten pairs of 30 concepts, each on 6 neurons of its own among 200, joined by one gate."""
    rng = np.random.default_rng(7)
    w, b = 0.02 * rng.standard_normal((200, 30)), np.zeros(200)
    other = 0.02 * rng.standard_normal((200, 30))
    signs = rng.choice((-1.0, 1.0), size=200)
    pairs = {(2 * i, 2 * i + 1) for i in range(10)}
    for i, (first, second) in enumerate(sorted(pairs)):
        mine = slice(6 * i, 6 * i + 6)
        w[mine, first] = 1.0
        if gated:
            other[mine, second] = signs[mine]
        else:
            w[mine, second] = -1.0 if gate == "a andnot b" else 1.0
        b[mine] = -1.0 if gate == "and" and not gated else 0.0
    held: dict[str, object] = (
        {"w_in": other, "w_gate": w, "activation": "silu"} if gated else {"w_in": w, "b_in": b}
    )
    return held, pairs


@pytest.mark.parametrize("gate", ["and", "or", "a andnot b"])
def test_each_gate_is_told_from_its_signs_and_bias(gate: str) -> None:
    weights, pairs = hand_made(gate)
    found = channels(weights, np.eye(30))
    assert {(s["a"], s["b"]) for s in found.sets if s["gate"] == gate} == pairs
    assert not [s for s in found.sets if s["gate"] in ("and", "or", "a andnot b") and s["gate"] != gate]
    on = np.zeros((2, 30), dtype=np.bool_)
    on[0, 0] = on[1, [0, 1]] = True
    k = next(i for i, clause in enumerate(found.program.clauses) if (clause.a, clause.b) == (0, 1))
    wanted = {"and": [False, True], "or": [True, True], "a andnot b": [True, False]}[gate]
    assert found.program.run(on)[:, k].tolist() == wanted


def test_both_halves_of_a_gated_layer_are_read() -> None:
    weights, pairs = hand_made("and", gated=True)
    found = channels(weights, np.eye(30))
    across = {(s["a"], s["b"]) for s in found.sets if s["kind"] == "gate+ linear"}
    assert across == pairs
    assert all(s["gate"] == "and" for s in found.sets if s["kind"] == "gate+ linear")
    # the same rows as a plain layer hold single concepts only: nothing meets
    assert not channels({"w_in": weights["w_gate"]}, np.eye(30)).sets
    # the library's own layer, in tensors, says the same
    own = MlpWeights.from_arrays(weights["w_in"], w_gate=weights["w_gate"], activation="silu")  # pyright: ignore[reportArgumentType]
    assert [s["neurons"] for s in channels(own, torch.eye(30)).sets] == [s["neurons"] for s in found.sets]


def test_outputs_are_named_with_their_sign() -> None:
    weights, pairs = hand_made("and")
    w_out = np.zeros((3, 200))
    w_out[2, :30], w_out[1, 30:60] = 1.0, -1.0
    program = channels({**weights, "w_out": w_out}, np.eye(30)).program
    told = {(clause.a, clause.b): (clause.out, clause.out_sign) for clause in program.clauses}
    assert told == {pair: ((2, 1) if i < 5 else (1, -1)) for i, pair in enumerate(sorted(pairs))}
    assert "¬out 1 ← 10 ∧ 11" in str(program)


def test_what_is_found_is_explained_away_and_the_rest_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Narrow superposed circuits: neurons of a channel are copies of each other until it is found. Control: one pass."""
    circuit = two_and(pairs=64, n_concepts=128, n_neurons=256, d_model=256, seed=101)
    true = {tuple(pair) for pair in np.sort(circuit.pairs, axis=1).tolist()}
    got = joined(channels(circuit, circuit.encode, twins=20))
    assert len(true & got) / len(true) >= 0.95
    assert len(true & got) / len(got) >= 0.95
    monkeypatch.setattr("probekit.theory.channels.decode.MOST_PASSES", 1)
    assert len(true & joined(channels(circuit, circuit.encode, twins=20))) / len(true) <= 0.8


def test_an_overlap_that_two_channels_account_for_is_no_channel() -> None:
    """Channels of 0 ∧ 20 and 27 ∧ 37 share three neurons by accident, so that 0 and 27 meet there: no set of their own."""
    circuit = two_and(pairs=24, n_concepts=48, n_neurons=192, influence=1, seed=1)
    shared = (circuit.w_in[:, [0, 20, 27, 37]] > 0).all(axis=1)
    assert shared.sum() == 3
    found = channels(circuit, circuit.encode, twins=20)
    assert {(0, 20), (27, 37)} <= joined(found)
    assert (0, 27) not in joined(found)
    # the control: were the two pairs not known, the meeting would stand out in the same layer
    row = next(i for i, pair in enumerate(found.pairs.tolist()) if pair == [0, 27] and found.kind[i] == "++")
    assert found.n_met[row] == 0
    assert found.p_exact[row] < 0.01


def taken_apart(rng: np.random.Generator, *, n_terms: int = 8, n_each: int = 24) -> dict[str, np.ndarray]:
    """ANDs of concepts 2i and 2i + 1 as a net trained on them makes them: Σ relu(±(a + b)) less Σ relu(±(a − b))."""
    w = 0.05 * rng.standard_normal((2 * n_each, 2 * n_terms))
    signs = rng.choice((-1.0, 1.0), size=(2 * n_each, n_terms))
    w[:, ::2] += signs
    w[:, 1::2] += signs * np.repeat([1.0, -1.0], n_each)[:, None]
    # two neurons fewer lower the output than raise it
    return {"w_in": w[:-2], "w_out": np.repeat([1.0, -1.0], n_each)[None, :-2]}


def test_an_and_taken_apart_is_read_by_the_signs_of_the_output() -> None:
    """On neurons that raise it the literals agree, on the others they disagree. Control: without output weights nothing."""
    weights = taken_apart(np.random.default_rng(2))
    terms = {(2 * i, 2 * i + 1) for i in range(8)}
    found = channels(weights, np.eye(16), levels=(0.3,))
    raising = [one for one in found.sets if one["kind"] == "++ raising"]
    assert {(one["a"], one["b"]) for one in raising} == terms
    assert {tuple(sorted((one["a"], one["b"]))) for one in found.sets} == terms
    assert all(max(one["neurons"]) < 24 for one in raising)
    # nothing lowers a pair of which the second half was not found: that is an OR; with it, an AND
    both = {tuple(sorted((one["a"], one["b"]))) for one in found.sets if one["kind"] == "+- lowering"}
    assert len(both) >= 4
    assert {one["gate"] for one in raising} == {"or"}
    assert {one["written"] for one in raising if (one["a"], one["b"]) in both} <= {"and", "a", "b"}
    assert "and" in {one["written"] for one in raising}
    assert not channels({"w_in": weights["w_in"]}, np.eye(16), levels=(0.3,)).sets


@pytest.mark.slow
def test_random_layers_with_one_output_show_nothing() -> None:
    """FDR ≤ q + 3 s.e. over 100 layers whose output splits the neurons in two; the positive control is the test above."""
    q, hits = 0.1, 0
    for draw in range(100):
        rng = np.random.default_rng([draw, 4])
        weights = {
            "w_in": np.repeat(rng.standard_normal((16, 12)), 3, axis=0),
            "w_out": rng.standard_normal((1, 48)),
        }
        hits += bool(channels(weights, np.eye(12), q=q, levels=(0.3,), twins=30, seed=draw).sets)
    assert hits / 100 <= q + 3 * np.sqrt(q * (1 - q) / 100)


@pytest.mark.sweep
def test_later_passes_keep_the_rate_where_some_pairs_are_true() -> None:
    """A circuit's rows four times over, and its clones: the mean false share over 100 layers, q + 3 s.e."""
    shares = []
    for draw in range(100):
        rng = np.random.default_rng([draw, 5])
        circuit = two_and(pairs=16, n_concepts=48, n_neurons=96, d_model=96, seed=draw)
        rows = np.repeat(circuit.w_in, 4, axis=0)
        weights = {"w_in": rows + 0.02 * rng.standard_normal(rows.shape)}
        true = {tuple(pair) for pair in np.sort(circuit.pairs, axis=1).tolist()}
        got = [
            tuple(sorted((s["a"], s["b"])))
            for s in channels(weights, circuit.encode, twins=30, seed=draw).sets
        ]
        shares.append(sum(pair not in true for pair in got) / max(1, len(got)))
    assert np.mean(shares) <= 0.05 + 3 * np.std(shares, ddof=1) / 10


def null_layer(kind: str, rng: np.random.Generator) -> tuple[dict[str, np.ndarray], np.ndarray]:
    centres = rng.standard_normal((24, 4))[:, rng.integers(0, 4, 16)]
    codes = np.linspace(1, 0.1, 24)[:, None] * (rng.standard_normal((24, 16)) + 0.7 * centres)
    if kind == "random":
        return {"w_in": rng.standard_normal((64, 24))}, codes
    if kind == "clones":  # every row four times: margins count 64 neurons where there are 16
        return {"w_in": np.repeat(rng.standard_normal((16, 24)), 4, axis=0)}, codes
    circuit = two_and(pairs=16, n_concepts=16, n_neurons=64, d_model=24, seed=int(rng.integers(1 << 30)))
    _, axes = np.linalg.eigh(circuit.encode @ circuit.encode.T)
    return {"w_in": circuit.w_in @ (axes * rng.choice((-1.0, 1.0), size=24)) @ axes.T}, circuit.encode


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param("clones", marks=pytest.mark.sweep),
        pytest.param("random", marks=pytest.mark.slow),
        pytest.param("twin", marks=pytest.mark.slow),
    ],
)
def test_nothing_is_found_in_layers_that_compute_no_pair(kind: str) -> None:
    """Overlapping codes, cloned neurons, PC-sign twins of a planted circuit: FDR ≤ q + 3 s.e. over 100 layers."""
    q, n_draws = 0.1, 100
    hits = 0
    for draw in range(n_draws):
        weights, codes = null_layer(kind, np.random.default_rng([draw, 3]))
        hits += bool(channels(weights, codes, q=q, twins=30, seed=draw).sets)
    assert hits / n_draws <= q + 3 * np.sqrt(q * (1 - q) / n_draws)


def test_clones_would_be_taken_for_channels_without_twins_of_the_codes() -> None:
    """The positive control of the test above: exact p-values alone count every clone as a neuron."""
    hits = 0
    for draw in range(20):
        weights, codes = null_layer("clones", np.random.default_rng([draw, 3]))
        hits += bool(channels(weights, codes, q=0.1, twins=0).sets)
    assert hits >= 8  # with them 10 % and three standard errors would be 6


def test_dense_codes_are_found_at_a_dense_level() -> None:
    """Codes on a third of the neurons, two of them shared by a pair: no entry stands out, the signs do."""
    rng = np.random.default_rng(11)
    w = rng.choice((-1.0, 1.0), size=(160, 24)) * rng.uniform(0.9, 1.1, (160, 24))
    w[:, 1] = np.where(rng.random(160) < 0.8, w[:, 0], w[:, 1])
    met = lambda found: [(s["a"], s["b"]) for s in found.sets if s["kind"] == "++"]
    assert met(channels((w, np.zeros(160)), np.eye(24), levels=(0.3,))) == [(0, 1)]
    assert not met(channels((w, np.zeros(160)), np.eye(24)))


def test_a_universal_layer_has_no_channels() -> None:
    circuit = gaussian_uand(n_concepts=40, n_neurons=256, n_active=3, d_model=40, seed=0)
    assert not channels(circuit, circuit.encode).sets


def test_same_seed_same_answer_and_the_order_of_concepts_is_only_a_name() -> None:
    circuit = two_and(pairs=16, n_concepts=32, n_neurons=128, seed=3)
    first, again = (channels(circuit, circuit.encode, twins=5, seed=1) for _ in range(2))
    assert (first.p == again.p).all()
    order = np.random.default_rng(0).permutation(32)
    moved = channels(circuit, circuit.encode[:, order], twins=0)
    plain = channels(circuit, circuit.encode, twins=0)
    back = lambda found, names: {
        (min(names[s["a"]], names[s["b"]]), max(names[s["a"]], names[s["b"]])) for s in found.sets
    }
    assert back(moved, order.tolist()) == back(plain, list(range(32)))
    table = first.frame_of_sets()
    assert len(table) == len(first.sets)
    assert len(first.frame_of_tests()) == len(first.p) == 3 * 32 * 31 // 2


def test_bad_arguments_are_refused_by_name() -> None:
    w = np.ones((6, 4))
    with pytest.raises(ShapeError, match=r"directions: got shape \(3, 4\), wanted \[4, concepts\]"):
        channels((w, np.zeros(6)), np.ones((3, 4)))
    with pytest.raises(ShapeError, match=r"names: got 1, wanted one for each of 5"):
        channels((w, np.zeros(6)), np.ones((4, 5)), names=["a"])
    with pytest.raises(InputError, match=r"levels: got \(0.9,\)"):
        channels((w, np.zeros(6)), np.ones((4, 5)), levels=(0.9,))
    with pytest.raises(InputError, match=r"q: got 0"):
        channels((w, np.zeros(6)), np.ones((4, 5)), q=0)
    with pytest.raises(ShapeError, match=r"concepts: got dtype float64"):
        channels(hand_made("and")[0], np.eye(30)).program.run(np.zeros((2, 30)))


def test_agreement_with_activations_is_held_against_twins() -> None:
    """Channel scores of a planted circuit beside an excess that follows its pairs; and beside one that follows nothing."""
    circuit = two_and(pairs=24, n_concepts=48, n_neurons=192, influence=1, seed=1)
    found = channels(circuit, circuit.encode, twins=0)
    first, second = np.triu_indices(48, k=1)
    pairs = np.column_stack([first, second])
    rng = np.random.default_rng(0)
    true = {tuple(pair) for pair in circuit.pairs.tolist()}
    excess = np.array(
        [2.0 if (a, b) in true else 0.0 for a, b in pairs.tolist()]
    ) + 0.3 * rng.standard_normal(len(pairs))
    twins = found.twin_scores(pairs, 20, seed=1)
    told = agreement(found.scores(pairs), twins, excess, top=24)
    assert told.overlap >= 23
    assert told.twin_overlap[2] <= 6
    assert told.p_overlap == told.p_correlation == pytest.approx(1 / 21)
    assert told.correlation > told.twin_correlation[2]
    nothing = agreement(found.scores(pairs), twins, rng.permutation(excess), top=24)
    assert nothing.overlap <= 6
    assert nothing.p_correlation > 0.05


def test_pairs_of_a_run_are_found_by_name() -> None:
    import pandas as pd

    table = pd.DataFrame(
        {
            "a": ["x", "y", "x"],
            "b": ["y", "z", "w"],
            "d_prime": [3.0, 2.0, 1.0],
            "d_prime_twins": [1.0, 1.5, 0.0],
        }
    )
    pairs, excess = measured_pairs(table, ("x", "y", "z"))
    assert pairs.tolist() == [[0, 1], [1, 2]]
    assert excess.tolist() == [2.0, 0.5]
    relays = table.assign(d_prime_relay=[2.0, 2.0, 2.0], d_prime_relay_twins=[1.5, 1.0, 0.0])
    assert measured_pairs(relays, ("x", "y", "z"))[1].tolist() == [0.5, 1.0]
