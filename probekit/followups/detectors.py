"""Detectors of computed pairs for `benchmark`: probekit's own decision, and two probes as others use them.

A detector is a function of (neurons, labels, doc, inputs, pairs), which returns for every pair a p-value or whether the
layer computes it. It may name `weights`, `q` and `seed` as well, and then gets them.

The two probes ask what is usually asked: do the neurons tell the tokens at which A and B hold from others, on documents
the probe was not fitted on? Both classes are balanced, and the p-value is that of the binomial test against guessing.
Tokens of one document are treated as independent, as there. Neither has a null layer. Axes: token neuron concept pair.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import stats
from sklearn.linear_model import LogisticRegression

from probekit.analysis.array_inputs import ActivationData
from probekit.analysis.inputs import inputs_of_arrays
from probekit.analysis.layer_summary import summarise_layer
from probekit.analysis.passes import measure_layers
from probekit.analysis.progress import watching
from probekit.analysis.settings import Settings
from probekit.errors import ConfigError
from probekit.evidence.pair_sampling import PairSampling

Detector = Callable[..., Any]
"""(neurons, labels, doc, inputs, pairs) → Float[pair] of p-values or Bool[pair]."""
Rows = Float[np.ndarray, "token neuron"]
Inputs = Float[np.ndarray, "token input"]
PairRows = Int[np.ndarray, "pair 2"]

N_TWINS, MIN_SUPPORT = 12, 20
"""Of `by_probekit`: null layers, and tokens that a quadrant must hold in each half."""
K_SPARSE = 16
MOST_TOKENS = 400
"""Tokens of each class and half that a probe sees, at most."""


def by_probekit(
    neurons: Rows,
    labels: Bool[np.ndarray, "token concept"],
    doc: Int[np.ndarray, " token"],
    inputs: Inputs,
    pairs: PairRows,
    *,
    weights: tuple[Any, ...],
    q: float = 0.05,
    seed: int = 0,
) -> Bool[np.ndarray, " pair"]:
    """The column *computed* of `analyze_arrays`, without its page; a pair that cannot be tested is not computed."""
    given = ActivationData.check(neurons, labels, doc, inputs, weights, "relu", None, "refuse", None)
    settings = Settings(
        max_tokens=len(doc), context=2, skip_first=0, heldout_types=False, max_pairs=max(len(pairs), 1), q=q, seed=seed,
        min_support=MIN_SUPPORT, twins=N_TWINS, controls=(), spikes=(),
    )  # fmt: skip
    asked = PairSampling.of([(f"c{a}", f"c{b}") for a, b in pairs])
    held = inputs_of_arrays(given, asked, settings)
    with watching(False) as report:
        measure = next(measure_layers(held.source, [0], held.design, report))
    table = summarise_layer(
        measure, held.design, names=held.names, kinds=held.kinds, n_params=held.n_params(0),
        bits_stored=float(held.bits(0)),
    ).pairs  # fmt: skip
    named = table.loc[table["computed"].fillna(value=False).astype(bool), ["a", "b"]]
    found = {frozenset(row) for row in named.itertuples(index=False)}
    return np.array([frozenset((f"c{a}", f"c{b}")) in found for a, b in pairs], np.bool_)


def by_sparse_probe(
    neurons: Rows,
    labels: Bool[np.ndarray, "token concept"],
    doc: Int[np.ndarray, " token"],
    inputs: Inputs,
    pairs: PairRows,
    *,
    seed: int = 0,
    k: int = K_SPARSE,
) -> Float[np.ndarray, " pair"]:
    """p-values of k-sparse probes of A∧B (Gurnee et al., arXiv 2305.01610).

    The k neurons whose means differ most between the classes, then logistic regression on them.
    """

    def fit(x: Rows, y: Bool[np.ndarray, " token"]) -> Callable[[Rows], Bool[np.ndarray, " token"]]:
        chosen = np.argsort(-np.abs(_difference(x, y)), kind="stable")[:k]
        model = LogisticRegression().fit(x[:, chosen], y)
        return lambda rows: model.predict(rows[:, chosen])

    return _p_values(fit, neurons, labels, doc, pairs, seed)


def by_mean_difference(
    neurons: Rows,
    labels: Bool[np.ndarray, "token concept"],
    doc: Int[np.ndarray, " token"],
    inputs: Inputs,
    pairs: PairRows,
    *,
    seed: int = 0,
) -> Float[np.ndarray, " pair"]:
    """p-values of mean-difference probes of A∧B: the difference of the class means over all neurons as direction
    (Marks & Tegmark, arXiv 2310.06824), logistic regression on the projection."""

    def fit(x: Rows, y: Bool[np.ndarray, " token"]) -> Callable[[Rows], Bool[np.ndarray, " token"]]:
        direction = _difference(x, y)
        model = LogisticRegression().fit((x @ direction)[:, None], y)
        return lambda rows: model.predict((rows @ direction)[:, None])

    return _p_values(fit, neurons, labels, doc, pairs, seed)


BUILT_IN: dict[str, Detector] = {
    "probekit": by_probekit,
    "sparse-probe": by_sparse_probe,
    "mean-difference": by_mean_difference,
}
"""Detectors by name."""


def load_detector(name: str) -> Detector:
    """The detector that a command line names.

    Args:
        name: a key of `BUILT_IN`, module:function, or file.py:function. The module's code is run.

    Raises:
        ConfigError: there is no such thing.
    """
    if name in BUILT_IN:
        return BUILT_IN[name]
    where, colon, function = name.rpartition(":")
    if not (colon and where and function.isidentifier()):
        raise ConfigError(
            f"detector: got {name!r}, wanted {', '.join(BUILT_IN)}, module:function or file.py:function."
        )
    module = _module(where, name)
    found = getattr(module, function, None)
    if not callable(found):
        others = [key for key, value in vars(module).items() if inspect.isfunction(value)]
        there = f"it has {', '.join(others[:5])}" if others else "it has no function"
        raise ConfigError(
            f"detector: {where} has no function {function!r}; {there}. Name one after the colon."
        )
    return found


def _module(where: str, name: str) -> Any:
    """A module by its name, or a file of Python."""
    path = Path(where)
    is_file = path.suffix == ".py"
    if is_file and not path.is_file():
        raise ConfigError(f"detector: got {name!r}, but there is no file {where}. Check the path.")
    try:
        if not is_file:
            if "" not in sys.path and str(Path.cwd()) not in sys.path:
                sys.path.insert(0, str(Path.cwd()))  # as python -m does
            return importlib.import_module(where)
        spec = importlib.util.spec_from_file_location(path.stem, path)
        assert spec is not None and spec.loader is not None  # noqa: PT018 - a file that ends in .py has both
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    except Exception as error:
        raise ConfigError(
            f"detector: {where} could not be imported ({type(error).__name__}: {error}). Try: python -c 'import {path.stem}'"
        ) from error
    return module


def _difference(x: Rows, y: Bool[np.ndarray, " token"]) -> Float[np.ndarray, " neuron"]:
    return x[y].mean(axis=0) - x[~y].mean(axis=0)


def _p_values(
    fit: Callable[[Rows, Bool[np.ndarray, " token"]], Callable[[Rows], Bool[np.ndarray, " token"]]],
    neurons: Rows,
    labels: Bool[np.ndarray, "token concept"],
    doc: Int[np.ndarray, " token"],
    pairs: PairRows,
    seed: int,
) -> Float[np.ndarray, " pair"]:
    """Fit each pair on one half of the documents, and test its accuracy on the other against ½."""
    rng = np.random.default_rng([seed, 148])
    fitted = (rng.random(int(doc.max()) + 1) < 0.5)[doc]
    spread = neurons[fitted].std(axis=0)
    x = (neurons - neurons[fitted].mean(axis=0)) / np.where(spread > 0, spread, 1)
    p = np.ones(len(pairs))
    for row, (a, b) in enumerate(pairs):
        both = labels[:, a] & labels[:, b]
        train, test = (_balanced(rng, both, half) for half in (fitted, ~fitted))
        if min(len(train), len(test)) < 4:  # nothing to fit, or nothing to test
            continue
        predicted = fit(x[train], both[train])(x[test])
        p[row] = stats.binomtest(
            int((predicted == both[test]).sum()), len(test), alternative="greater"
        ).pvalue
    return p


def _balanced(
    rng: np.random.Generator, both: Bool[np.ndarray, " token"], half: Bool[np.ndarray, " token"]
) -> Int[np.ndarray, " chosen"]:
    """As many tokens with both concepts as others, of one half."""
    yes, no = np.flatnonzero(both & half), np.flatnonzero(~both & half)
    n = min(len(yes), len(no), MOST_TOKENS)
    return np.concatenate([rng.choice(yes, n, replace=False), rng.choice(no, n, replace=False)])
