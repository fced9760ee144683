"""What every symbol and word of the trade means, in a sentence: the report's tooltips.

A marked word can be pointed at, tapped or reached with the keyboard; without a script its meaning is in its title.
"""

from __future__ import annotations

import re
from typing import Any

from probekit.report import words

_SD = (
    "How far a neuron’s output usually lies from its mean on this text. An AND of 2 is one that raises each of its five "
    "neurons by twice that wherever A and B both hold."
)
TERMS: dict[str, str] = {
    "null layers": (
        "Random twins of the layer: the same weights fed an input whose principal components had their signs flipped at "
        "random. They see the same text and respond as strongly, but learned nothing about it."
    ),
    "null layer": (
        "A random twin of the layer: the same weights fed an input whose principal components had their signs flipped at "
        "random. It sees the same text and responds as strongly, but learned nothing about it."
    ),
    "twins": "Null layers: the same weights fed an input whose principal components had their signs flipped at random.",
    "pair-specific": (
        "More than the other pairs of the same two concepts lead one to expect (leave-one-out): a matter of the pair, not "
        "of A or B alone. Called computed."
    ),
    "relayed": "Without what the layer’s input already holds of the AND the layer is no better than its null layers.",
    "relay": "The layer passes on an AND that its input already holds.",
    "relays": (
        "ANDs that the layer’s input already holds and the layer passes on. How strong one must be to be noticed is not "
        "measured."
    ),
    "in superposition": "Pair-specific, spread over several neurons, most of which serve other such pairs as well.",
    "false discoveries": "The share of the pairs named that may be named wrongly, on average (false discovery rate).",
    "d′": "Interaction contrast of the readout divided by its noise within the quadrants, on unseen documents.",
    "κ": "Interaction contrast μ₁₁ − μ₁₀ − μ₀₁ + μ₀₀: 1 for a perfect AND, 0 for anything that only adds A and B up.",
    "± s.e.": "Standard error, clustered by document.",
    "ε95": "Error of the readout that 95 % of tokens stay below, in the worst quadrant; adding A and B up reaches ¼.",
    "q": "False discovery rate at which the pair is just called pair-specific.",
    "q above": "False discovery rate at which the pair is just called above its null layers (relays removed).",
    "p twin": "Chance of a d′ like this in a null layer, as it stands.",
    "p relay": "The same with relays removed from the layer and from its null layers.",
    "p pair": "The same for what the other pairs of the two concepts do not predict.",
    "z": "d′ in standard deviations of the pair’s own null layers.",
    "n²/ln n": (
        "Order of the most freely chosen features that n neurons can compute (Adler and Shavit); its constant is not "
        "known, 1 is assumed."
    ),
    "n²/log₂ n": "The same order of magnitude with another logarithm.",
    "sd": _SD,
    "standard deviations of a neuron": _SD,
    "at least": "Lower limit that holds with 95 % confidence, for each layer by itself; counts pairs without naming them.",
    "recall": "Share of the planted pairs tested that were found.",
    "precision": "Share of the pairs found that were planted.",
}
"""Word or symbol → its meaning."""

COLUMNS: dict[str, str] = {
    "A": "First concept.",
    "B": "Second concept.",
    "Rung": "The furthest step of evidence that the pair reaches.",
    "Looks like": "Which logical pattern the readout’s neurons show (AND, OR, …); says nothing on whether it is a find.",
    "Known answer": "What the pair is in the planted circuit.",
    "κ ± s.e.": f"{TERMS['κ']} With its standard error, clustered by document.",
    "d′ without relay": "d′ after the AND that already lies in the layer’s input is taken out.",
    "Null layers’": "The mean of d′ without relay in the null layers.",
    "Effective neurons": "How many neurons carry the readout in effect (participation ratio).",
    "Null layers’ d′": "Mean and range of d′ of the same pair in the null layers.",
    "Input d′": "d′ of a linear readout of the layer’s whole input.",
    "Pre-act. d′": "d′ of a linear readout of as many pre-activations.",
    "Tested": "Pairs with enough tokens and documents in all four quadrants.",
    "Excess over twins": "Pair-specific pairs less what a null layer in its place gets, with its 95 % interval.",
    "Share": "Share of the readout’s contrast that the neuron carries.",
    "Weight": "The neuron’s weight in the readout.",
    "Exact bound": "Most of the tested pairs that the bits of the weights could single out; vacuous where all of them.",
    "Amplitude": "Size of the ANDs added for comparison, in standard deviations of a neuron.",
    "Mean z": f"Mean over the pairs of z: {TERMS['z']}",
    "p ≤ t": "Share of pairs with small p-values.",
    "p ≥ 1 − t": "Share of pairs with large p-values, the control.",
    "Effective rank of readouts": "How many independent directions the readouts of the pair-specific pairs span.",
    "Coherence of readouts": "How much the readouts of different pairs overlap.",
}
"""Column heading → its meaning, besides those that are terms."""

_WORD = re.compile(
    "|".join(
        rf"(?<![\w’]){re.escape(term)}(?![\w’₀-₉])"
        for term in sorted(TERMS, key=len, reverse=True)
        if term not in ("z", "q")
    )
)


def column(label: str) -> str:
    """The meaning of a column heading; empty where it needs none."""
    for known in (label, label.lower()):
        for held in (COLUMNS, TERMS):
            if known in held:
                return held[known]
    return next((f"{meaning}." for _, name, meaning in words.RUNGS if name == label), "")


def tip(label: str, meaning: str = "") -> Any:
    """A word as markup, with its meaning where one is known."""
    from markupsafe import Markup, escape

    told = meaning or column(label)
    if not told:
        return escape(label)
    return Markup('<abbr class="tip" tabindex="0" title="{}">{}</abbr>').format(told, label)


def tipped(text: str) -> Any:
    """A sentence as markup, each known word marked where it first occurs."""
    from markupsafe import Markup, escape

    seen: set[str] = set()
    parts: list[Any] = []
    end = 0
    for match in _WORD.finditer(text):
        if match[0] in seen:
            continue
        seen.add(match[0])
        parts += [escape(text[end : match.start()]), tip(match[0], TERMS[match[0]])]
        end = match.end()
    return Markup("").join([*parts, escape(text[end:])])
