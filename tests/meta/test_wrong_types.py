"""Arguments of the wrong Python type: one ProbekitError each, whatever the public function and the argument.

Each public function is called as it should be, once, and then with each argument in turn replaced by things that nobody
should pass. Some of them a function may take after all (None where there is a default, a number for a label); what it must
not do is let a foreign exception out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import probekit as pk
from probekit.errors import InputError, NumericalError, ProbekitError, guarded, shown

WRONG: tuple[Any, ...] = (
    "x", b"x", None, object(), [], {}, [object()], 1.5, -3, 10**400, 10**5000, float("nan"), 1j, True, len, np.zeros(2),
    Path("nowhere"),
)  # fmt: skip


def _moments(n_neurons: Any, n_concepts: Any, pairs: Any) -> pk.Moments:
    return pk.Moments(n_neurons, n_concepts, pairs=pairs)


def _update(activations: Any, labels: Any, docs: Any) -> None:
    moments = pk.Moments(3, 2, pairs=[(0, 1)])
    moments.update(activations, labels, docs)
    moments.finalize()


GATES = pk.circuits.random_gates(n_concepts=16, widths=[4], seed=0)[0]
TEXT = Path(__file__)
RNG = np.random.default_rng(0)
GOOD: list[tuple[Callable[..., Any], dict[str, Any]]] = [
    (pk.bounds.asymptotic_features, {"n_neurons": 64, "log": "e"}),
    (pk.bounds.min_neurons, {"n_features": 64, "log": "2"}),
    (pk.bounds.min_params, {"n_features": 64}),
    (pk.bounds.sufficient_neurons, {"n_features": 64}),
    (pk.bounds.sufficient_params, {"n_features": 64}),
    (pk.bounds.layer_params, {"d_model": 8, "n_neurons": 16, "site": "neurons", "gated": False}),
    (pk.bounds.max_selected, {"n_params": 16, "bits": 2, "n_concepts": 40, "delta": 0.0}),
    (pk.bounds.min_concepts_to_bind, {"n_params": 64, "bits": 2}),
    (
        pk.bounds.real_valued_bits,
        {"n_selected": 5, "n_params_in": 8, "n_params": 16, "n_neurons": 4, "n_inputs": 5},
    ),
    (
        pk.bounds.max_selected_real,
        {"n_universe": 100, "n_params_in": 8, "n_params": 16, "n_neurons": 4, "n_inputs": 5},
    ),
    (pk.bounds.log2_binomial, {"n_universe": 10, "n_selected": 3}),
    (pk.bounds.log2_factorial, {"n_items": 10}),
    (pk.bounds.log2_arrangements, {"n_universe": 10, "n_selected": 3}),
    (pk.bounds.bits_needed, {"n_universe": 10, "n_selected": 3, "delta": 0.1}),
    (pk.bounds.fano_bits, {"n_universe": 10, "n_selected": 3, "p_error": 0.1}),
    (pk.bounds.permutation_bits, {"n_features": 10, "n_outputs": 5}),
    (pk.bounds.jl_pairwise, {"n_features": 10, "epsilon": 0.1, "p_failure": 0.1}),
    (pk.bounds.jl_reading, {"n_features": 10, "n_active": 3, "p_failure": 0.1}),
    (pk.bounds.jl_worst_case, {"n_features": 10, "n_active": 3}),
    (pk.bounds.welch_floor, {"n_features": 10, "d_model": 4}),
    (pk.bounds.alon_floor, {"n_features": 10, "epsilon": 0.4}),
    (pk.bounds.information_floor, {"n_features": 10, "n_active": 3, "bits": 8}),
    (pk.bounds.linear_access_enough, {"n_features": 10, "n_active": 3}),
    (pk.bounds.linear_access_needed, {"n_features": 10, "n_active": 3}),
    (pk.bounds.ball_and_box, {"n_features": 10, "n_active": 3}),
    (pk.circuits.two_and, {"n_concepts": 16, "pairs": [(0, 1), (2, 3)], "n_neurons": 40, "seed": 0}),
    (pk.circuits.sparse_uand, {"n_concepts": 16, "n_neurons": 64, "n_active": 2, "seed": 0}),
    (pk.circuits.dense_uand, {"n_concepts": 16, "n_neurons": 64, "n_active": 2, "seed": 0}),
    (pk.circuits.gaussian_uand, {"n_concepts": 16, "n_neurons": 64, "n_active": 2, "seed": 0}),
    (pk.circuits.permutation, {"n_concepts": 8, "d_model": 16, "order": [1, 0, 2, 3, 4, 5, 6, 7], "seed": 0}),
    (
        pk.circuits.targeted_and,
        {"n_concepts": 16, "pairs": [(0, 1), (2, 3)], "n_neurons": 40, "d_model": 32, "seed": 0},
    ),
    (pk.circuits.random_gates, {"n_concepts": 16, "widths": [4, 2], "kinds": ("and",), "seed": 0}),
    (
        pk.circuits.boolean_circuit,
        {"n_concepts": 16, "gates": [GATES], "n_neurons": 64, "d_model": 64, "correct": False, "seed": 0},
    ),
    (pk.circuits.correction, {"n_concepts": 8, "n_neurons": 96, "d_model": 64, "ramp": 0.25, "seed": 0}),
    (
        pk.worlds,
        {
            "n_worlds": 1,
            "n_concepts": 8,
            "n_neurons": 20,
            "d_model": 8,
            "n_tokens": 100,
            "zipf": 1.0,
            "load": 0.1,
            "correlation": 0.5,
            "universal": False,
            "seed": 0,
        },
    ),
    (_moments, {"n_neurons": 3, "n_concepts": 2, "pairs": [(0, 1)]}),
    (
        _update,
        {"activations": RNG.normal(size=(8, 3)), "labels": np.eye(2)[[0, 1] * 4], "docs": np.arange(8)},
    ),
    (pk.Corpus.from_texts, {"texts": ["a", "b"], "name": "texts"}),
    (pk.Corpus.from_tokens, {"tokens": [[1, 2], [3, -1]], "name": "tokens"}),
    (pk.Corpus.from_file, {"path": TEXT, "doc_sep": "\n", "column": None}),
    (pk.Corpus.docs, {"split": "heldout"}),
    (pk.Concepts.from_vocab, {"masks": {"even": np.arange(6) % 2 == 0}, "lags": (0, 1), "kind": "user"}),
    (pk.Concepts.from_function, {"name": "f", "f": len, "description": ""}),
    (pk.Concepts.from_words, {"words": ["a"], "lags": (0, 1)}),
    (pk.Concepts.from_regex, {"patterns": {"a": "a"}, "lags": 0}),
    (pk.Concepts.from_column, {"corpus": pk.Corpus.from_texts(["a"]), "column": "text"}),
    (pk.Concepts.from_spans, {"spans": {}, "texts": ["a"], "tokenizer": None}),
    (pk.Concepts.phrases, {"tokenizer": None, "phrases": ["in order"]}),
    (pk.Concepts.from_toml, {"path": "nowhere.toml", "tokenizer": None}),
    (pk.compare, {"runs": ["nowhere"], "path": "nowhere.html", "names": ["a"]}),
    (pk.difference, {"first": "nowhere", "second": "nowhere", "level": 0.01}),
    (pk.runs, {"folder": TEXT.parent, "depth": 0}),
    (pk.load, {"path": "nowhere"}),
]
REFUSED_AS_GIVEN = {"from_column", "from_spans", "phrases", "from_toml", "compare", "difference", "load"}
"""Good by type, refused for what they name: no such column, file or run."""


@pytest.mark.parametrize(("function", "good"), GOOD, ids=lambda item: getattr(item, "__qualname__", ""))
def test_each_argument_of_a_wrong_type_is_one_error_of_ours(
    function: Callable[..., Any], good: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if function.__name__ not in REFUSED_AS_GIVEN:
        function(**good)
    told: list[str] = []
    for name in good:
        for wrong in WRONG:
            try:
                function(**{**good, name: wrong})
            except ProbekitError as error:
                told.append(f"{name}={shown(wrong)}: {error}")
    assert not [line for line in told if "unforeseen" in line]
    assert len(told) >= len(good), "wrong arguments are refused, not taken for something else"
    assert not list(tmp_path.iterdir()), "and nothing is written"


def test_a_call_that_does_not_fit_the_signature_names_what_would() -> None:
    with pytest.raises(
        InputError, match=r"analyze: got an unexpected keyword argument 'modle'\. It takes: model, "
    ):
        pk.analyze("nano", modle="nano")  # pyright: ignore[reportCallIssue]


def test_an_argument_of_the_wrong_type_is_named_with_what_was_wanted() -> None:
    with pytest.raises(InputError, match=r"n_features: got 'many' \(str\), wanted "):
        pk.bounds.min_neurons("many")  # pyright: ignore[reportArgumentType]


def test_numpys_numbers_are_numbers() -> None:
    """What fails for another reason is not blamed on an argument that fits."""

    def fails(n: int, share: float, names: Sequence[str]) -> None:
        raise ZeroDivisionError(f"{n} {share} {names}")

    with pytest.raises(NumericalError, match="ZeroDivisionError"):
        guarded(fails)(np.int64(3), np.float32(0.5), ["a"])  # pyright: ignore[reportArgumentType]
    with pytest.raises(
        InputError, match=r"names: got \[1\] \(list\), wanted collections.abc.Sequence\[str\]"
    ):
        guarded(fails)(3, 0.5, [1])  # pyright: ignore[reportArgumentType]
