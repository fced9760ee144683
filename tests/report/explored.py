"""A made-up run for the explorer: pairs of hostile and plain concepts in some layers, with all that a run keeps of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from synthetic import HOSTILE

from probekit.evidence.tables import ranked
from probekit.report.explorer import Explored, detail

NAMES = (
    HOSTILE, "</script><script>document.title='taken'</script>", "\"quoted\" & 'single'", "\u202eright to left\u202c",
    "שלום", "<!--", "line\u2028break", "{{ 7 * 7 }}", "a&b=c#d%20e+f", "__proto__",
)  # fmt: skip
"""Concepts that try to be something else, and one for each way in which a link could be cut short."""


def pair_table(layer: int, names: list[str], n_pairs: int, n_neurons: int, seed: int) -> pd.DataFrame:
    """The tested pairs of a layer, k = 16; every fifth is above its twins, every tenth computed."""
    rng = np.random.default_rng(seed)
    first, second = np.triu_indices(len(names), 1)
    place = np.arange(n_pairs)
    above, computed = place % 5 == 0, place % 10 == 0
    superposed = pd.Series(place % 20 == 0, dtype="boolean").mask(place % 7 == 3)  # not decided for some
    p = np.where(computed, 1e-4 * (1 + rng.random(n_pairs)), rng.uniform(0.02, 1, n_pairs))
    real = {
        name: rng.normal(1, 0.6, n_pairs)
        for name in (
            "d_prime_relay", "d_prime_relay_twins", "d_prime_twins", "d_prime_input", "d_prime_pre", "d_prime_linear",
            "d_balanced", "kappa", "kappa_se", "eps95", "mean11", "mean10", "mean01", "mean00", "best_neuron_d_prime",
            "participation", "z", "offset", "overlap",
        )
    }  # fmt: skip
    real["overlap"][:] = np.nan  # a column nobody measured
    return pd.DataFrame(
        {
            "layer": np.int32(layer),
            "a": [names[i] for i in first[:n_pairs]],
            "b": [names[i] for i in second[:n_pairs]],
            "kind": np.where(place % 3 == 0, "token × token, lag 1", "class × token"),
            "d_prime": np.where(computed, 4.0, 1.0) + rng.random(n_pairs),
            **real,
            "p_twin": p / 2,
            **dict.fromkeys(("p_relay", "p_pair", "p_decision", "p_vs_linear"), p),
            "q_above": np.where(above, 0.004, np.minimum(1, 5 * p)),
            "q": np.where(computed, 0.01, np.minimum(1, 20 * p)),
            "represented": pd.array(rng.random(n_pairs) < 0.3, dtype="boolean"),
            "above_plain": pd.array(above, dtype="boolean"),
            "relayed": pd.array(place % 5 == 1, dtype="boolean"),
            "above_twins": pd.array(above, dtype="boolean"),
            "computed": pd.array(computed, dtype="boolean"),
            "distributed": pd.array(computed, dtype="boolean"),
            "superposed": superposed,
            "dedicated": pd.array(place < 0, dtype="boolean"),
            "conjunctive": pd.array(computed, dtype="boolean"),
            "decidable": pd.array(place >= 0, dtype="boolean"),
            "shape": np.where(computed, "AND", "OR"),
            **{f"n{q}": rng.integers(60, 90_000, n_pairs) for q in ("11", "10", "01", "00")},
            "k": np.int32(16),
            "neurons": list(rng.permuted(np.tile(np.arange(n_neurons), (n_pairs, 1)), axis=1)[:, :16]),
            "weights": list(rng.standard_normal((n_pairs, 16))),
            "inclusion": 0.25,
        }
    )  # fmt: skip


def look(seed: int, names: tuple[str, str], n_contexts: int = 2) -> dict[str, Any]:
    """What is kept of one pair."""
    rng = np.random.default_rng(seed)
    quadrants = [
        {"quadrant": q, "low": -0.5, "high": 1.5, "counts": rng.integers(0, 90, 40).tolist()}
        for q in ("11", "10", "01", "00")
    ]
    contexts = [
        {
            "quadrant": q,
            "before": f"{names[0]} before\n",
            "token": names[1],
            "after": " after</script>",
            "value": 0.5,
        }
        for q in ("11", "10", "01")
        for _ in range(n_contexts)
    ]
    return detail(rng.random(20).tolist(), quadrants, contexts)


def explored(
    *, n_layers: int = 2, n_pairs: int = 60, n_concepts: int = 20, n_neurons: int = 24, n_detailed: int = 10
) -> Explored:
    """All that the explorer shows of a made-up run.

    Args:
        n_layers: layers.
        n_pairs: tested pairs of each.
        n_concepts: concepts, the hostile ones first.
        n_neurons: neurons of a layer.
        n_detailed: pairs of each layer, the strongest, with histograms and tokens.
    """  # fmt: skip
    names = [*NAMES, *(f'cur=" word{i}"' for i in range(n_concepts - len(NAMES)))]
    layers = [3 * i for i in range(n_layers)]
    tables = [pair_table(layer, names, n_pairs, n_neurons, layer) for layer in layers]
    pairs = pd.concat(tables, ignore_index=True)
    rng = np.random.default_rng(7)
    strongest = [row for _, part in pairs.groupby("layer") for row in ranked(part).index[:n_detailed]]
    concepts = pd.DataFrame(
        {
            "name": names,
            "kind": ["class" if i % 2 else "token" for i in range(len(names))],
            "lag": 0,
            "description": [f"the token is number {i} of the list" for i in range(len(names))],
            "n_tokens": np.arange(len(names)) + 60,
            "n_docs": np.arange(len(names)) + 5,
            "share": 0.01,
            "examples": [[f"some ⟦{name}⟧ text"] for name in names],
        }
    )
    return Explored(
        summary={
            "model": {"name": f"model {HOSTILE}"},
            "corpus": {"name": "made up", "n_tokens_fit": 61_728, "n_tokens_confirm": 61_728},
            "layers": [{"layer": layer} for layer in layers],
        },
        identity="0" * 64,
        pairs=pairs,
        contributions=rng.standard_normal((len(pairs), 16)).tolist(),
        twins=rng.random((len(pairs), 20)).tolist(),
        concepts=concepts,
        details={int(row): look(int(row), (pairs["a"][row], pairs["b"][row])) for row in strongest},
    )
