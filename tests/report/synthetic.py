"""A run that never happened, with every key that the report reads and numbers of a realistic size.

Layer 0: nothing found. Layer 1: finds. Layer 2: a few pairs named, no more than null layers get. "relayed": the input holds
them all.
`capacity` says which of the three bounds the layers have: "vacuous", "cannot_bind", "binds".
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from probekit.evidence.audit import by_assumption

RUNGS = (
    "n_significant_raw",
    "n_represented",
    "n_beyond_linear",
    "n_above_plain",
    "n_relayed",
    "n_above_twins",
    "n_computed",
    "n_superposed",
)
LEVELS = [0.05, 0.25, 0.5, 0.75, 0.95]
FLAGS = (
    "above_plain",
    "relayed",
    "above_twins",
    "computed",
    "represented",
    "distributed",
    "superposed",
    "dedicated",
    "conjunctive",
    "decidable",
)
HOSTILE = "<script>alert('x')</script>"

# tested, significant, represented, beyond linear, above plain twins, relayed, above twins, computed, in superposition
COUNTS = {
    "none": (
        (1140, 1138, 402, 310, 0, 0, 0, 0, 0),
        ((1136.2, 1131, 1140), (398.0, 371, 430), (288.4, 250, 333), *[(0.1, 0, 1)] * 4, (0.0, 0, 0)),
    ),
    "relayed": (
        (1140, 1138, 640, 420, 310, 310, 0, 0, 0),
        ((1136.2, 1131, 1140), (398.0, 371, 430), (288.4, 250, 333), *[(0.1, 0, 1)] * 4, (0.0, 0, 0)),
    ),
    "finds": (
        (1140, 1140, 511, 640, 150, 17, 133, 28, 21),
        (
            (1137.9, 1133, 1140),
            (405.5, 380, 440),
            (301.0, 266, 340),
            (0.4, 0, 2),
            (0.1, 0, 1),
            (0.5, 0, 2),
            (0.2, 0, 1),
            (0.1, 0, 1),
        ),
    ),
    "doubtful": (
        (1140, 1139, 433, 352, 5, 2, 3, 1, 0),
        (
            (1137.0, 1130, 1140),
            (401.2, 377, 429),
            (297.5, 260, 335),
            (1.9, 0, 7),
            (0.1, 0, 1),
            (1.5, 0, 6),
            (0.5, 0, 3),
            (0.1, 0, 1),
        ),
    ),
}

CAPACITY: dict[str, dict[str, Any]] = {
    "vacuous": {"max_selected": None, "vacuous": True, "cannot_bind": True},
    "cannot_bind": {"max_selected": 2_170, "vacuous": False, "cannot_bind": True},
    "binds": {"max_selected": 410, "vacuous": False, "cannot_bind": False},
}


def _sensitivity() -> dict[str, Any]:
    """Forty ANDs added, more of them found the larger they are."""
    curve: list[dict[str, Any]] = []
    for amplitude, recall in ((0.0, 0.0), (0.5, 0.3), (1.0, 0.7), (2.0, 0.975)):
        found = {
            "recall": recall,
            "low": max(0.0, recall - 0.1),
            "high": min(1.0, recall + 0.1),
            "by_support": [],
        }
        curve.append({"amplitude": amplitude, "above_twins": found, "computed": found})
    at = {"0.5": 0.75, "0.9": 1.7}
    return {"n_spiked": 40, "channel": 5, "curve": curve, "above_twins_at": at, "computed_at": at}


def layer_row(
    number: int, what: str, capacity: str, *, n_neurons: int = 512, twins: int = 20
) -> dict[str, Any]:
    """One entry of `summary["layers"]`."""
    rng = np.random.default_rng(number)
    own, nulls = COUNTS[what]
    small = capacity == "binds"
    n = 64 if small else n_neurons
    row: dict[str, Any] = {"layer": number, "n_neurons": n, "n_twins": twins}
    row |= dict(zip(("n_tested", *RUNGS), own, strict=True))
    row["twins"] = {
        rung: {"mean": m, "low": low, "high": high} for rung, (m, low, high) in zip(RUNGS, nulls, strict=True)
    }
    rate = nulls[6][0] / own[0]
    row |= {
        "n_distributed": own[7],
        "n_dedicated": 0,
        "twin_rate": rate,
        "n_excess": own[7] - rate * own[0],
        "excess_low": own[7] - nulls[6][2],
        "excess_high": own[7] - nulls[6][1],
        "share_low_p": 0.010 + own[7] / own[0],
        "share_high_p": 0.011,
        "sensitivity": _sensitivity(),
        "floor": {
            "smallest_p": 0.0,
            "fewest_nameable": 1,
            "detectable_d": 3.4,
            "assumptions": "p-values are ranks among the twins",
        },
        "n_at_least_above": None,
        "n_at_least": None,
        "n_nonnull_low": own[7] if twins >= 19 else None,
        "nonnull": {
            "n_low": own[7] if twins >= 19 else None,
            "control": 0 if twins >= 19 else None,
            "beta": 0.2,
            "why_not": "" if twins >= 19 else f"{twins} twins; 19 are needed for a 95 % constant",
        },
        "n_distinct": own[7],
        "effective_rank": 11.0,
        "features_per_neuron": 1.6,
        "n_conjunctive": own[7],
        "n_undecidable": 214,
        "n_above_isotropic": own[7] + 40,
        "by_k": [
            {
                "k": k,
                "form": form,
                "n_above_plain": own[4],
                "n_specific_plain": own[7],
                "share_low_p_twin": 0.02,
                "share_high_p_twin": 0.01,
                "share_low_p": 0.012,
                "share_high_p": 0.011,
            }
            for k in (16, 64, "all")
            for form in ("pooled", "balanced")
        ],
        "statement": f"Layer {number}: {own[7]} of {own[0]} tested pairs computed; {twins} twins.",
    }
    shift = {"none": 0.1, "relayed": 0.1, "finds": 2.4, "doubtful": 0.6}[what]
    kinds = ("token × token", "class × token", "context × token", "context × class")
    row["groups"] = [
        {
            "kind": kind,
            "n_tested": n_tested,
            "mean_z": float(shift * factor + 0.05 * rng.standard_normal()),
            "twin_low": -0.45,
            "twin_high": 0.48,
        }
        for kind, n_tested, factor in zip(kinds, (322, 401, 260, 157), (0.2, 1.0, 0.6, 0.1), strict=True)
    ]
    row["effect_levels"] = LEVELS
    row["effect"] = {
        "neurons": [0.12, 0.35, 0.61 + 0.1 * shift, 1.02 + 0.2 * shift, 1.9 + 0.4 * shift],
        "input": [0.02, 0.14, 0.3, 0.52, 1.0],
        "pre": [0.05, 0.2, 0.38, 0.6, 1.1],
        "linear": [0.03, 0.15, 0.31, 0.55, 1.02],
        "twins": [0.1, 0.31, 0.58, 0.97, 1.8],
        "isotropic": None,
    }
    row["tails"] = [
        {
            "t": t,
            "low": t * 1.1 + own[7] / own[0],
            "high": t * 0.95,
            "twin_low_mean": t * 1.02,
            "twin_high_mean": t * 0.99,
        }
        for t in (0.001, 0.01, 0.05, 0.1)
    ]
    row["capacity"] = {
        "n2_over_ln_n": n * n / np.log(n),
        "n2_over_log2_n": n * n / np.log2(n),
        "bits_per_param": 2.0,
        "n_params": n * 129,
        "by_assumption": by_assumption(
            n_params=n * 129, n_tested=own[0], n_found=max(0, own[7] - nulls[6][2])
        ),
        **CAPACITY[capacity],
    }
    return row


def pair_table(number: int, n_computed: int, n_above: int = 0, n_tested: int = 1140) -> pd.DataFrame:
    """The tested pairs of a layer, k = 16."""
    rng = np.random.default_rng(100 + number)
    names = [
        HOSTILE,
        "token ` if`",
        "line start",
        "inside quotes",
        "capitalised (lag 1)",
        "digit",
        "``` (lag 2)",
        "§ ∧",
    ]
    names += [f"token `w{i}`" for i in range(60)]
    couples = [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]][:n_tested]
    computed = np.arange(n_tested) < n_computed
    above = np.arange(n_tested) < max(n_computed, n_above)
    p = np.where(computed, 1e-4, rng.uniform(0.02, 1, n_tested))
    d = np.where(computed, rng.uniform(2, 5, n_tested), rng.gamma(2.0, 0.4, n_tested))
    order = rng.permutation(n_tested)
    table = pd.DataFrame(
        {
            "layer": number,
            "a": [a for a, _ in couples],
            "b": [b for _, b in couples],
            "n11": rng.integers(60, 2000, n_tested),
            "n10": rng.integers(200, 9000, n_tested),
            "n01": rng.integers(200, 9000, n_tested),
            "n00": 100_000,
            "k": 16,
            "neurons": [rng.choice(512, 16, replace=False).tolist() for _ in couples],
            "weights": [rng.standard_normal(16).tolist() for _ in couples],
            "kappa": np.where(computed, 0.9, 0.4) + 0.05 * rng.standard_normal(n_tested),
            "kappa_se": rng.uniform(0.02, 0.09, n_tested),
            "d_prime": d,
            "d_prime_input": rng.gamma(2.0, 0.2, n_tested),
            "eps95": rng.uniform(0.2, 0.9, n_tested),
            "mean11": 1.0,
            "mean10": 0.05,
            "mean01": 0.04,
            "mean00": 0.0,
            "best_neuron_d_prime": 0.4 * d,
            "participation": rng.uniform(2, 11, n_tested),
            "shape": np.where(computed, "conjunctive", "other"),
            "p_twin": p,
            "p_relay": p,
            "p_pair": p,
            "p_decision": p,
            "p_vs_linear": p,
            "q_above": np.where(above, 0.004, np.minimum(1.0, p * 5)),
            "q": np.where(computed, 0.01, np.minimum(1.0, p * 20)),
            "above_plain": above,
            "relayed": False,
            "above_twins": above,
            "computed": computed,
            "represented": rng.random(n_tested) < 0.3,
            "distributed": computed,
            "superposed": computed & (rng.random(n_tested) < 0.7),
            "inclusion": 1.0,
            "kind": "token × token, same position",
            "z": rng.standard_normal(n_tested),
            "d_balanced": 0.9 * d,
            "d_prime_pre": rng.gamma(2.0, 0.25, n_tested),
            "d_prime_linear": rng.gamma(2.0, 0.2, n_tested),
            "d_prime_twins": rng.gamma(2.0, 0.4, n_tested),
            "d_prime_relay": 0.9 * d,
            "d_prime_relay_twins": rng.gamma(2.0, 0.35, n_tested),
            "dedicated": False,
            "conjunctive": computed,
            "offset": 0.0,
            "decidable": True,
            "overlap": rng.standard_normal(n_tested),
        }
    ).astype(dict.fromkeys(FLAGS, "boolean"))
    return table.iloc[order].reset_index(drop=True)


def run(
    kinds: tuple[str, ...] = ("none", "finds", "doubtful"), capacity: str = "vacuous", name: str = "nano"
) -> tuple[dict[str, Any], pd.DataFrame, dict[int, pd.DataFrame]]:
    """Summary, layers and pairs of a made-up run with one layer for each kind."""
    rows = [layer_row(number, what, capacity) for number, what in enumerate(kinds)]
    summary: dict[str, Any] = {
        "schema": "probekit.summary/2",
        "notes": [],
        "model": {
            "name": name,
            "n_layers": len(rows),
            "d_model": 128,
            "d_mlp": rows[0]["n_neurons"],
            "activation": "gelu",
            "gated": False,
        },
        "corpus": {
            "name": "docs (heldout)",
            "n_tokens_fit": 150_210,
            "n_tokens_confirm": 149_790,
            "n_docs": 2_411,
        },
        "concepts": {
            "n": 212,
            "n_pairs": 22_366,
            "n_testable": 1_140,
            "untestable": {"rare": 19_504, "exclusive": 521, "nested": 901, "few documents": 300},
        },
        "layers": rows,
    }
    scalar = [key for key, value in rows[0].items() if not isinstance(value, (dict, list))]
    layers = pd.DataFrame([{key: row[key] for key in scalar} for row in rows])
    return (
        summary,
        layers,
        {row["layer"]: pair_table(row["layer"], row["n_computed"], row["n_above_twins"]) for row in rows},
    )


def examples(layer: int = 1) -> list[dict[str, Any]]:
    """Two pairs with tokens in context, one of them with a hostile token."""

    def context(token: str, value: float) -> dict[str, Any]:
        return {
            "before": ' Returns\n    -------\n    out : ndarray of "x',
            "token": token,
            "after": " <b>of</b>\n    the input array",
            "value": value,
        }

    quadrants = {
        "11": [context(" if", 1.21), context(HOSTILE, 1.02), context("\n", 0.97)],
        "10": [context(" the", 0.08), context(" a", -0.02)],
        "01": [context(" if", 0.11)],
        "00": [context(" and", 0.01)],
    }
    base = {
        "layer": layer,
        "neurons": [17, 201, 388, 4, 92, 300],
        "weights": [0.81, 0.52, -0.44, 0.3, 0.21, -0.05],
        "contributions": [0.31, 0.22, 0.2, 0.12, 0.1, -0.01],
        "quadrants": quadrants,
    }
    return [{**base, "a": "token ` if`", "b": "line start"}, {**base, "a": HOSTILE, "b": "digit"}]


def provenance() -> dict[str, Any]:
    """What a run says of itself."""
    return {
        "command": "probekit analyze nano --corpus docs --out runs/nano --seed 0",
        "settings": {
            "q": 0.05,
            "k": 16,
            "min_support": 60,
            "min_docs": 20,
            "max_per_quadrant": 2000,
            "twins": 20,
            "seed": 0,
            "max_tokens": 300_000,
            "context": 128,
            "max_pairs": 2000,
            "twin_kind": "pc-sign",
        },
        "versions": {"probekit": "0.1.0", "torch": "2.13.0", "transformer-lens": "4.3.0", "python": "3.11.9"},
        "fingerprints": {"run": "9f3c2ab1d4e5", "corpus": "71e0aa52c3b9", "model": "0d44be1f77aa"},
    }
