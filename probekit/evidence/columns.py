"""What the columns of `run.layers` and `run.pairs()` mean, in the order in which one reads them.

First what a row is, then what was counted or measured beside the same in the twins, then how it came about.
"""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

_RUNGS = {
    "n_significant_raw": "pairs whose interaction is not zero; random layers have them as well",
    "n_represented": "pairs read off to within ¼ in every quadrant on 95 % of documents",
    "n_beyond_linear": "pairs better read at the neurons than by a linear readout of the same budget; decides nothing",
    "n_above_plain": "pairs above the plain twins",
    "n_relayed": "pairs above the plain twins, not shown to be more than a relay of what lies in the input",
    "n_above_twins": "pairs above the twins with relays removed from the layer and from every twin",
    "n_computed": "those of them that are more than the other pairs of their two concepts predict",
    "n_distributed": "computed pairs whose readout is spread over several neurons",
    "n_superposed": "computed pairs in superposition: spread, and on neurons that serve other pairs as well",
}


def _with_twins(rungs: Mapping[str, str]) -> dict[str, str]:
    told: dict[str, str] = {}
    for name, meaning in rungs.items():
        told[name] = meaning
        told |= {
            f"twins_{name}_mean": f"the same in the twins put in the layer's place: mean of {name}",
            f"twins_{name}_low": f"fewest {name} of any twin",
            f"twins_{name}_high": f"most {name} of any twin",
        }
    return told


LAYERS: dict[str, str] = {
    "layer": "number of the layer, from 0",
    "n_neurons": "neurons of the layer",
    "n_tested": "tested pairs",
    "n_twins": "random twins of the layer",
    **_with_twins(_RUNGS),
    "n_excess": "computed pairs less the twins' mean",
    "excess_low": "lower end of its 95 % prediction interval",
    "excess_high": "upper end of its 95 % prediction interval",
    "n_at_least": "at least so many of the tested pairs are computed, 95 % simultaneous (run.at_least)",
    "n_at_least_above": "at least so many of the tested pairs stand above their twins, 95 % simultaneous",
    "n_nonnull_low": "at least so many pairs are no null pairs (Meinshausen & Rice), 95 %",
    "twin_rate": "computed pairs of a usual twin, as a share of the tested ones",
    "share_low_p": "share of pairs with a pair-specific p of at most 1 %",
    "share_high_p": "share of pairs with a pair-specific p of at least 99 %: as many by chance",
    "n_dedicated": "computed pairs that have a main neuron of their own",
    "n_conjunctive": "computed pairs of which some neuron reads the conjunction itself",
    "n_distinct": "computed pairs once those of duplicate concepts are counted once",
    "n_undecidable": "pairs with too few documents in some quadrant for the exact test of ε",
    "n_above_isotropic": "pairs above isotropic twins; decides nothing",
    "n_above_shuffled": "pairs above channel-shuffle twins; decides nothing",
    "features_per_neuron": "computed pairs for each of their main neurons",
    "effective_rank": "effective rank of the computed readouts",
    "coherence": "how much the computed readouts overlap",
    "total_value": "computed pairs among all testable ones, extrapolated from the sample",
    "total_low": "lower end of its 95 % interval",
    "total_high": "upper end of its 95 % interval",
    "total_method": "how it was extrapolated",
    "capacity_n_params": "weights that act at the layer's neurons",
    "capacity_n2_over_ln_n": "n²/ln n of n neurons: an order of magnitude, constant 1 assumed",
    "capacity_n2_over_log2_n": "n²/log₂ n, likewise",
    "capacity_universe": "pairs among which the weights would have to select",
    "capacity_max_selected": "most pairs whose selection the weights can hold at the assumed bits; null where vacuous",
    "capacity_max_selected_stored": "the same at the bits a weight has in the file",
    "capacity_bits_per_param": "bits a weight, assumed",
    "capacity_bits_stored": "bits a weight, in the file",
    "capacity_bits_held": "bits that the weights hold",
    "capacity_bits_needed": "bits that a selection of the excess needs",
    "capacity_min_neurons": "order of the fewest neurons for the excess, constant 1 assumed",
    "capacity_min_params": "order of the fewest parameters for the excess, constant 1 assumed",
    "capacity_vacuous": "whether the exact bound excludes nothing",
    "capacity_cannot_bind": "whether too few pairs were tested for any count to exceed the reference",
    "statement": "the layer in a sentence",
}  # fmt: skip
"""Columns of `run.layers`: name → meaning."""

PAIRS: dict[str, str] = {
    "layer": "number of the layer, from 0",
    "a": "first concept",
    "b": "second concept",
    "kind": "kinds of the two concepts, and how far apart they look",
    "d_prime": "κ over the pooled noise: how well the readout tells A∧B from what A and B add up to",
    "d_prime_twins": "the same in the twins: mean",
    "d_prime_relay": "d′ with relays removed",
    "d_prime_relay_twins": "the same in the twins: mean",
    "z": "the pair standardised by its twins",
    "p_twin": "p-value against the plain twins",
    "p_relay": "p-value against the twins, relays removed from both",
    "p_pair": "p-value of being no more than the other pairs of its concepts predict",
    "p_decision": "the larger of p_relay and p_pair, on which the pair is decided",
    "q_above": "p_relay adjusted for the false discovery rate",
    "q": "p_decision adjusted for the false discovery rate",
    "represented": "read off to within ¼ in every quadrant on 95 % of documents",
    "above_plain": "above the plain twins",
    "relayed": "above the plain twins, and not shown to be more than a relay",
    "above_twins": "above the twins with relays removed",
    "computed": "above the twins, and more than the other pairs of its concepts predict",
    "distributed": "the readout is spread over several neurons",
    "superposed": "computed, spread, and on neurons that serve other pairs as well",
    "dedicated": "computed, with a main neuron of its own",
    "conjunctive": "some neuron reads the conjunction itself",
    "shape": "pattern of the quadrant means: AND, OR, XOR, …",
    "d_balanced": "κ over the noise averaged equally over the quadrants",
    "d_prime_input": "d′ of a linear readout of the MLP input",
    "d_prime_pre": "d′ at the pre-activations",
    "d_prime_linear": "d′ at the linearised layer",
    "best_neuron_d_prime": "d′ of the best single neuron of the readout",
    "p_vs_linear": "p-value of being no better than a linear readout of the same budget; decides nothing",
    "kappa": "interaction contrast μ₁₁ − μ₁₀ − μ₀₁ + μ₀₀ of the readout on the confirm half",
    "kappa_se": "its document-clustered standard error",
    "eps95": "largest 95 % error quantile of any quadrant",
    "decidable": "every quadrant has documents enough for the exact test of ε",
    "mean11": "mean of the readout where both hold",
    "mean10": "where the first alone holds",
    "mean01": "where the second alone holds",
    "mean00": "where neither holds",
    "n11": "tokens of the confirm half at which both hold",
    "n10": "at which the first alone holds",
    "n01": "at which the second alone holds",
    "n00": "at which neither holds",
    "participation": "over how many neurons the readout is spread",
    "overlap": "how much the channels of the two concepts overlap by the weights alone, as a robust z",
    "k": "neurons of the readout",
    "neurons": "which ones, in the order they were chosen",
    "weights": "their weights",
    "offset": "constant added to the readout",
    "inclusion": "probability with which the pair was drawn",
}  # fmt: skip
"""Columns of `run.pairs()`: name → meaning."""

TABLES = {"layers": LAYERS, "pairs": PAIRS}


def in_order(table: pd.DataFrame, known: Mapping[str, str]) -> pd.DataFrame:
    """The same table with its columns in the order in which one reads them; unknown ones last.

    Args:
        table: any of the two.
        known: its columns, `LAYERS` or `PAIRS`.
    """
    held = [str(name) for name in table.columns]
    return table[[*(name for name in known if name in held), *(name for name in held if name not in known)]]


def described(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """One row a column of some tables: table, column, type, meaning.

    Args:
        tables: "layers" or "pairs" → the table.
    """
    return pd.DataFrame(
        [
            {"table": table, "column": str(name), "type": str(held[name].dtype), "meaning": TABLES[table].get(str(name), "")}
            for table, held in tables.items()
            for name in held.columns
        ],
        columns=["table", "column", "type", "meaning"],
    )  # fmt: skip
