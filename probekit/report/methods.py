"""How a report's numbers came about and what they do not show, generated from the run's own settings.

A setting that the run did not record is not named: no default is ever printed as if it had been used.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from probekit.evidence.summary import Summary
from probekit.report import words


def methods(summary: Summary, settings: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The method in steps: heading and text."""
    corpus = summary["corpus"]
    n_twins = summary["layers"][0]["n_twins"] or 0
    fit, confirm = words.count(corpus.get("n_tokens_fit")), words.count(corpus.get("n_tokens_confirm"))
    k, q = settings.get("k"), settings.get("q")
    chosen = f"{k} neurons" if k is not None else "a few neurons"
    rate = f" at rate {q:g}" if q is not None else ""
    return [
        (
            "Text in two halves",
            (
                f"The {words.count(corpus.get('n_docs'))} documents of {corpus.get('name', 'the corpus')} "
                f"were divided, each as a whole, by a hash: {fit} tokens to fit the readouts, {confirm} "
                f"others to judge them.{_reading(corpus)}"
            ),
        ),
        (
            "Pairs",
            (
                "Two concepts A and B divide the tokens into four quadrants: both, A alone, B alone, "
                f"neither. A pair is testable when each quadrant holds enough{_support(settings)} in both "
                "halves."
            ),
        ),
        (
            "Readout",
            (
                f"For each pair a linear readout of “A and B” is fitted on {chosen} of the layer, chosen by "
                "forward selection after A, B and the mean have been projected out, and scaled so that its "
                "interaction contrast κ = μ₁₁ − μ₁₀ − μ₀₁ + μ₀₀ is 1 on the fit half. κ is 0 for anything "
                "that only adds A and B up, however well it separates them; accuracy and AUC decide "
                "nothing."
            ),
        ),
        (
            "Judgement",
            (
                "On the confirm half κ gets a standard error clustered by document, "
                "and d′ = κ divided by the readout’s noise. The same is done at linear sites at matched budgets (as many "
                "pre-activations as neurons, the whole input against all neurons); these are shown and decide nothing."
            ),
        ),
        ("Twins", _twins(n_twins)),
        (
            "Relays",
            (
                "A layer may only pass on an AND that already lies in its input. For each pair the directions of the "
                "input are found along which the two concepts interact (the mean interaction and the leading "
                "eigenvectors of the interaction of the covariances, on the fit half). What the readout’s neurons read "
                "along them is replaced, in the layer and in every twin alike, by what they would read of an input with "
                "scrambled principal components; the readout is fitted and judged again."
            ),
        ),
        (
            "Decision",
            (
                "Every pair’s d′ is compared with its own twins’, as it stands (above plain twins) and with relays removed "
                "(above twins); what passes only the first is called relayed. A pair is computed when its d′ without "
                "relays is moreover higher than the other pairs of its two concepts predict (mixed model, leave-one-out). "
                f"Benjamini–Hochberg{rate} runs over all tested pairs. Each twin is put in the layer’s place by the "
                "same rule, which gives the grey numbers."
            ),
        ),
        (
            "Superposition",
            (
                "A computed pair is distributed when its readout spreads over at least four neurons in "
                "effect and its best neuron carries less than half of d′; it is in superposition when "
                "moreover half of its weight lies on neurons that carry another computed pair with no "
                "concept in common."
            ),
        ),
    ]


def _reading(corpus: Mapping[str, Any]) -> str:
    """How the text became tokens, as far as the run recorded it."""
    said: list[str] = []
    if corpus.get("column"):
        n_left_out = corpus.get("n_rows_left_out") or 0
        left_out = f"; {words.plural(n_left_out, 'row')} without a text there left out" if n_left_out else ""
        said.append(f"The text is column “{corpus['column']}”{left_out}.")
    if corpus.get("policy"):
        said.append(f"Read as {corpus['policy']}.")
    special = corpus.get("special_tokens") or {}
    if special:
        n_times = words.plural(sum(special.values()), "special token")
        said.append(
            f"Inside the documents stand {n_times} ({', '.join(list(special)[:5])}), read and not counted."
        )
    return "".join(f" {sentence}" for sentence in said)


def _support(settings: Mapping[str, Any]) -> str:
    parts = [
        f"{words.count(settings[key])} {unit}"
        for key, unit in (("min_support", "tokens"), ("min_docs", "documents"))
        if settings.get(key) is not None
    ]
    return f" (at least {' from '.join(parts)})" if parts else " tokens and documents"


def _twins(n_twins: int) -> str:
    if n_twins == 0:
        return "No twin was measured in this run, so the only comparison is with the input of the layer."
    return (
        f"{words.plural(n_twins, 'twin')} of each layer: the same weights fed an input whose principal "
        "components have had their signs flipped at random. Every neuron keeps its mean and all "
        "pre-activations keep their covariance; what is lost is the alignment of the weights with the "
        "meaning of the directions. Twins run through the same code on the same text."
    )


def limits(summary: Summary) -> list[str]:
    """What the counts do not show."""
    n_twins = summary["layers"][0]["n_twins"] or 0
    return [
        (
            "A count is a count of tested pairs, from this dictionary of concepts, this text and this kind "
            "of readout, whose interaction on unseen documents goes beyond the controls named. Other "
            "concepts may give other counts."
        ),
        "It does not show that the model uses a pair: nothing was ablated here.",
        (
            "“AND-like” means not additive in A and B. OR, XOR and NOR differ from AND by additive terms "
            "only; the column “shape” names the pattern that the readout’s neurons show."
        ),
        (
            "ANDs that a concept shares with all its partners are predicted by its other pairs, so the "
            "count of “computed” cannot see them."
        ),
        *_intervals(n_twins),
        (
            "n²/ln n has an unknown constant and speaks of pairs that weights select freely. ANDs that any "
            "layer lets a probe read are not bounded by it, a count below it does not confirm it, and a "
            "count above it would not refute it."
        ),
    ]


def _intervals(n_twins: int) -> list[str]:
    """What the intervals mean, where there are twins to give them."""
    if n_twins == 0:
        return []
    drawn = words.plural(n_twins, "twin")
    return [
        f"With {drawn} the intervals tell how much random layers differ among themselves; none is binomial."
    ]
