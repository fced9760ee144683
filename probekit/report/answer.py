"""What the report says first: one headline with a number, and the answer in three sentences.

Every claim comes from the summary and holds when nothing is found. A count is a count of tested pairs beyond the
listed nulls, never a share of some capacity. "Null layers" are the layer's random twins, the word of the rest of the report.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from probekit.evidence.summary import LayerRow, Summary, TwinRange
from probekit.report import words

Kind = Literal["at least", "named", "doubtful", "relayed", "nothing", "undecided"]
"""What may be said of a layer: a lower bound, pairs that can be named, no more than nulls get, relays only, nothing."""
_SHOWING = ("at least", "named")


@dataclass(frozen=True)
class Shown:
    """What one layer shows beyond its null layers, relays removed."""

    row: LayerRow
    """Its entry of the summary."""
    kind: Kind
    """What may be said of it."""
    n_above: int | None
    """Pairs named above its null layers."""
    n_at_least: int | None
    """At least so many pairs stand above them (95 %, this layer by itself); None where no bound was taken."""

    @property
    def layer(self) -> int:
        """Layer index."""
        return int(self.row["layer"])

    @property
    def n_tested(self) -> int:
        """Pairs tested."""
        return int(self.row["n_tested"])

    @property
    def n_specific(self) -> int | None:
        """Pairs named that are specific to the pair as well (computed)."""
        return self.row["n_computed"]

    @property
    def null(self) -> TwinRange | None:
        """The same count for null layers in its place; None where none ran."""
        return (self.row["twins"] or {}).get("n_above_twins")

    @property
    def beside(self) -> TwinRange:
        """The same, of a layer that was set beside null layers."""
        assert self.null is not None
        return self.null


def shown(row: LayerRow) -> Shown:
    """What may be said of a layer."""
    n_above, bound = row["n_above_twins"], row.get("n_at_least_above")
    this = Shown(row, "undecided", n_above, bound)
    if n_above is None or not this.null:
        return this
    kind: Kind = "nothing"
    if bound:
        kind = "at least"
    elif n_above:
        kind = "named" if n_above > this.null["high"] else "doubtful"
    elif (
        row["n_relayed"] and row["n_relayed"] > ((row["twins"] or {}).get("n_relayed") or {"high": 0})["high"]
    ):
        kind = "relayed"
    return Shown(row, kind, n_above, bound)


def finds(rows: Sequence[LayerRow]) -> list[Shown]:
    """Layers that show more than their null layers do, the one that shows most first.

    Either a lower bound says so, or more pairs are named than in any null layer put in its place.
    """
    held = [found for found in map(shown, rows) if found.kind in _SHOWING]
    return sorted(held, key=lambda found: (-(found.n_at_least or 0), -(found.n_above or 0), found.layer))


def foremost(rows: Sequence[LayerRow]) -> list[Shown]:
    """Layers that the headline speaks of, first the one that it names; empty where it names none.

    Those with finds; else those with no more than null layers get; else those with relays only.
    """
    if found := finds(rows):
        return found
    kinds = _by_kind(rows)
    doubtful = sorted(kinds["doubtful"], key=lambda one: (-(one.n_above or 0), one.layer))
    return doubtful or sorted(kinds["relayed"], key=lambda one: (-(one.row["n_relayed"] or 0), one.layer))


def headline(summary: Summary, *, q: float | None = None) -> str:
    """The whole run in one or two sentences, with its number.

    Args:
        summary: summary.json of the run.
        q: the level of the false discovery rate, where it is known.
    """
    rows: list[LayerRow] = summary["layers"]
    model = summary["model"]["name"]
    tested = words.spread(row["n_tested"] for row in rows)
    each = "pairs" if len(rows) == 1 else f"pairs in each of {words.count(len(rows))} layers"
    if len(_by_kind(rows)["undecided"]) == len(rows):
        return f"{model}: {tested} {each} tested, none decided: no null layer was measured beside them."
    found = foremost(rows)
    if not found:
        return f"{model}: 0 of {tested} {each} stand above the null layers ({_null_of(rows)}){_could(rows)}."
    best = found[0]
    if best.kind in _SHOWING:
        return _found_line(model, found, len(rows), q)
    if best.kind == "doubtful":
        return (
            f"{model}, layer {best.layer}: {words.count(best.n_above)} of {words.plural(best.n_tested, 'pair')} "
            f"{_stand(best.n_above)} above its null layers, no more than a null layer in its place may get "
            f"({_range(best)})."
        )
    return (
        f"{model}: 0 of {tested} {each} are shown to be more than relays (passed on from the input); "
        f"{words.count(best.row['n_relayed'])} in layer {best.layer} {_stand(best.row['n_relayed'])} above its null "
        "layers only until what its input already holds of the AND is taken out."
    )


def _by_kind(rows: Sequence[LayerRow]) -> dict[str, list[Shown]]:
    return {
        kind: [one for one in map(shown, rows) if one.kind == kind]
        for kind in ("undecided", "doubtful", "relayed")
    }


def _found_line(model: str, found: Sequence[Shown], n_layers: int, q: float | None) -> str:
    best = found[0]
    tested = words.plural(best.n_tested, "tested pair")
    rate = "" if q is None else f" at {words.percent(q, 0)} false discoveries"
    own = "" if best.n_specific is None else f", {words.count(best.n_specific)} of them pair-specific"
    also = f" {words.count(len(found))} of {words.count(n_layers)} layers show some." if n_layers > 1 else ""
    if best.kind == "at least":
        return (
            f"{model}, layer {best.layer}: at least {words.count(best.n_at_least)} of {tested} stand above what its "
            f"null layers show (95\u202f%); which ones is known for {words.count(best.n_above)}{rate}{own}. A null layer in "
            f"its place: {_mean(best)}.{also}"
        )
    return (
        f"{model}, layer {best.layer}: {words.count(best.n_above)} of {tested} {_stand(best.n_above)} above all null "
        "layers"
        f"{rate}{own}. A null layer in its place: {_mean(best)}.{also}"
    )


def _stand(n: int | None) -> str:
    return "stands" if n == 1 else "stand"


def _mean(one: Shown) -> str:
    value = one.beside["mean"]
    # two decimals where one would print a rare event as 0.0 or 0.1
    number = words.real(value, 2) if 0 < value < 0.1 else words.mean(value)
    return f"{number} {'pair' if value == 1 else 'pairs'}"


def _range(one: Shown) -> str:
    return words.span(one.beside["low"], one.beside["high"])


def _null_of(rows: Sequence[LayerRow]) -> str:
    means = [one.null["mean"] for one in map(shown, rows) if one.null]
    high = max(means)
    number = words.real(high, 2) if 0 < high < 0.1 else words.mean(high)
    most = " at most" if len(means) > 1 and high else ""
    return f"a null layer in {'its' if len(rows) == 1 else 'their'} place: {number}{most}"


def _could(rows: Sequence[LayerRow]) -> str:
    """What would have been found, behind a zero; empty where it was not measured."""
    held = floor_of(rows)
    where = "" if len(rows) == 1 else " in the least sensitive layer"
    if held.sizes is None:
        return ""
    if held.n_blind:
        blind = "" if held.n_blind == len(rows) else f" in {held.n_blind} of {len(rows)} layers"
        size = words.real(held.largest, 1)
        return f"; this zero says little: of ANDs of {size} sd not even half would have been found{blind}"
    return f"; an AND of ≥ {words.real(held.sizes[1], 1)} sd would have been found half the time{where}"


@dataclass(frozen=True)
class Floor:
    """What the run could have found: known ANDs added for comparison, and single pairs."""

    sizes: tuple[float, float] | None
    """Smallest and largest size, over layers, at which half of the added ANDs are found above the null layers, in standard
    deviations of a neuron; None where none were added."""
    worst: int | None
    """The layer with the largest one, or one in which half were never found."""
    n_blind: int
    """Layers in which not even half of the largest ones were found."""
    largest: float
    """The largest size that was added."""
    detectable: tuple[float, float] | None
    """Smallest and largest d′, over layers, from which a usual pair can be named; None where it was not reckoned."""
    fewest: int | None
    """The fewest pairs that can be named together."""


def floor_of(rows: Sequence[LayerRow]) -> Floor:
    """What could have been found, over the layers."""
    held = [(row["layer"], found) for row in rows if (found := row.get("sensitivity"))]
    reached = {layer: found["above_twins_at"]["0.5"] for layer, found in held}
    sizes = {layer: float(size) for layer, size in reached.items() if size is not None}
    blind = [layer for layer, size in reached.items() if size is None]
    worst = blind[0] if blind else max(sizes, key=lambda layer: sizes[layer]) if sizes else None
    largest = max((point["amplitude"] for _, found in held for point in found["curve"]), default=0.0)
    floors = [row["floor"] for row in rows if row.get("floor")]
    detectable = [float(floor["detectable_d"]) for floor in floors if floor["detectable_d"] is not None]
    return Floor(
        (min(sizes.values(), default=largest), max(sizes.values(), default=largest)) if held else None,
        worst,
        len(blind),
        float(largest),
        (min(detectable), max(detectable)) if detectable else None,
        floors[0]["fewest_nameable"] if floors else None,
    )


def floor_line(rows: Sequence[LayerRow]) -> str:
    """What could have been found, in one or two sentences."""
    held = floor_of(rows)
    one = len(rows) == 1
    said: list[str] = []
    if held.sizes is None:
        said.append("How large an AND would have been found was not measured in this run.")
    elif held.n_blind:
        where = "" if one else f" in {held.n_blind} of {len(rows)} layers (layer {held.worst} is one)"
        said.append(
            f"Of known ANDs added for comparison not even half of the largest, {words.real(held.largest, 1)} standard "
            f"deviations of a neuron, were found{where}: a zero there says little."
        )
    else:
        low, high = (words.real(size, 1) for size in held.sizes)
        where = "" if one else f" in the least sensitive layer ({held.worst}), {low} in the most sensitive"
        where = " in every layer" if not one and low == high else where
        said.append(
            "Half of the known ANDs added for comparison were found once they were as large as "
            f"{high} standard deviations of a neuron{where}."
        )
    if (named := foremost(rows)) and named[0].kind == "relayed":
        said.append(
            "These ANDs are the layer’s own; how strong a relay must be to be noticed was not measured."
        )
    if held.detectable is not None:
        low, high = (words.real(d, 1) for d in held.detectable)
        reach = low if low == high else f"{low} to {high}, by layer"
        few = "one pair alone" if held.fewest == 1 else f"{words.count(held.fewest)} pairs together"
        said.append(f"The least that can be named is {few}, with a d′ of {reach}.")
    return " ".join(said)


def answer(summary: Summary) -> tuple[str, str, str]:
    """The answer in three sentences: what was asked, what was found, what it says of the capacity limit."""
    return _asked(summary), _found(summary["layers"]), _limit(summary["layers"])


def _asked(summary: Summary) -> str:
    rows: list[LayerRow] = summary["layers"]
    model = summary["model"]["name"]
    tested = words.spread(row["n_tested"] for row in rows)
    neurons = words.spread(row["n_neurons"] for row in rows)
    n_layers = summary["model"]["n_layers"]
    each = "" if len(rows) == 1 else " in each layer"
    if len(rows) == 1:
        where, compared = f"layer {rows[0]['layer']} of {model} ({neurons} neurons)", "the layer"
    else:
        all_or_some = f"the {len(rows)}" if len(rows) == n_layers else f"{len(rows)} of the {n_layers}"
        where, compared = f"{all_or_some} MLP layers of {model} ({neurons} neurons each)", "each layer"
    head = (
        f"We asked of {tested} pairs of concepts{each}, A and B, whether the neurons of {where} respond to A and B together "
        "more strongly or less strongly than the sum of what they do for A alone and for B alone"
    )
    n_twins = rows[0]["n_twins"] or 0
    if n_twins == 0:
        return f"{head}; no null layer (a random twin of the layer) was measured, so nothing below can be called a find."
    return (
        f"{head}, and compared {compared} with {words.plural(n_twins, 'null layer')}: random twins of it that see the "
        "same text and respond as strongly, but whose learned directions have been scrambled."
    )


def _found(rows: Sequence[LayerRow]) -> str:
    by_kind = _by_kind(rows)
    if len(by_kind["undecided"]) == len(rows):
        return "Whether any pair is more than an accident was not decided in this run: the counts speak of readability only."
    found = finds(rows)
    if found:
        return _sentence_of_finds(found, by_kind["doubtful"], len(rows))
    if by_kind["doubtful"]:
        return _doubtful(by_kind["doubtful"], len(rows))
    if by_kind["relayed"]:
        return _relayed(by_kind["relayed"], len(rows))
    return _nothing(rows)


def _sentence_of_finds(found: Sequence[Shown], weak: Sequence[Shown], n_layers: int) -> str:
    best = found[0]
    many = f"{words.count(best.n_above)} of {words.plural(best.n_tested, 'tested pair')}"
    beyond = "even after what its input already holds of it is taken out of the layer and of the null layers"
    differ = best.beside["low"] != best.beside["high"]
    spread = f" on average, {_range(best)}" if differ else ""
    named = f"(a null layer in its place gets {_mean(best)}{spread})"
    better = f"the AND can be read better from its neurons than from those of its null layers, {beyond}"
    if best.kind == "at least":
        text = (
            f"Layer {best.layer}: for at least {words.count(best.n_at_least)} of "
            f"{words.plural(best.n_tested, 'tested pair')} {better} (95\u202f%, for this layer by itself), and "
            f"for {words.count(best.n_above)} of them it is known which pairs they are {named}"
        )
    else:
        text = f"Layer {best.layer}: for {many} {better} {named}"
    text += _specific(best)
    others = found[1:]
    if others:
        text += f"; {_layer_list(others)} {'shows' if len(others) == 1 else 'show'} some as well"
    if weak:
        text += f"; what {_layer_list(weak)} {'passes' if len(weak) == 1 else 'pass'} is no more than null layers may get"
    n_none = n_layers - len(found) - len(weak)
    if n_none:
        text += f"; nothing was found in {_the_other(n_none)}"
    return f"{text}."


def _specific(best: Shown) -> str:
    n, n_superposed = best.n_specific, best.row["n_superposed"]
    if n is None:
        return ""
    if n == 0:
        return (
            "; none of these is shown to be pair-specific, that is, stronger than the other pairs of its two concepts "
            "lead one to expect"
        )
    told = (
        f"; {words.count(n)} {'is' if n == 1 else 'are'} also pair-specific: stronger than the other pairs of "
        f"{'its' if n == 1 else 'their'} two concepts lead one to expect"
    )
    if n_superposed is None:
        return told
    if n_superposed == 0:
        return f"{told}, none of them on neurons that serve other such pairs too"
    which = "all" if n_superposed == n > 1 else words.count(n_superposed)
    return f"{told}, {which} of them on neurons that serve other such pairs too (“in superposition”)"


def _layer_list(found: Sequence[Shown]) -> str:
    """Layers with their counts, the first six by name."""
    parts = [f"layer {one.layer} ({words.count(one.n_at_least or one.n_above)})" for one in found[:6]]
    more = [f"{len(found) - 6} more"] if len(found) > 6 else []
    return words.listed([*parts, *more])


def _nothing(rows: Sequence[LayerRow]) -> str:
    n_tests = sum(int(row["n_tested"]) for row in rows if row["n_above_twins"] is not None)
    where, layer = (
        ("", "the layer combines") if len(rows) == 1 else (" over all layers", "these layers combine")
    )
    return (
        f"Nothing was found: in {words.plural(n_tests, 'test')}{where} no pair stood out from the null layers; that does "
        f"not prove that {layer} nothing, only that nothing was strong enough to be told apart from what a scrambled "
        f"layer shows by accident{_power(rows)}."
    )


def _power(rows: Sequence[LayerRow]) -> str:
    """What a zero is worth: how large the ANDs that were added for comparison had to be; empty where none were."""
    held = floor_of(rows)
    if held.sizes is None:
        return ""
    if not held.n_blind:
        where = "" if len(rows) == 1 else f" (in layer {held.worst}, the least sensitive)"
        return (
            f"; of known ANDs added for comparison half were found once they were as large as "
            f"{words.real(held.sizes[1], 1)} standard deviations of a neuron{where}"
        )
    where = "" if held.n_blind == len(rows) else f" in {held.n_blind} of the {len(rows)} layers"
    return (
        f"; this zero says little{where}, because of known ANDs added for comparison not even half were found at "
        f"the largest size tried, {words.real(held.largest, 1)} standard deviations of a neuron"
    )


def _doubtful(passed: Sequence[Shown], n_layers: int) -> str:
    one = max(passed, key=lambda one: (one.n_above or 0, -one.layer))
    rest = [other for other in passed if other is not one]
    likewise = f"; {_layer_list(rest)} likewise" if rest else ""
    none = f"; {_the_other(n_layers - len(passed))} passed none" if n_layers > len(passed) else ""
    return (
        f"Nothing was found beyond what chance may give: in layer {one.layer}, "
        f"{words.plural(one.n_above or 0, 'pair')} of "
        f"{words.count(one.n_tested)} stood out from the null layers, but a null layer put in its place gets "
        f"{_mean(one)} on "
        f"average and up to {words.count(one.beside['high'])}{likewise}{none}."
    )


def _relayed(passed: Sequence[Shown], n_layers: int) -> str:
    one = max(passed, key=lambda one: (one.row["n_relayed"], -one.layer))
    rest = [other for other in passed if other is not one]
    others = [f"layer {other.layer} ({words.count(other.row['n_relayed'])})" for other in rest[:6]]
    likewise = f"; so it is in {words.listed(others)}" if rest else ""
    none = f"; nothing was found in {_the_other(n_layers - len(passed))}" if n_layers > len(passed) else ""
    return (
        f"Layer {one.layer} is not shown to do more than pass on what it is given: for "
        f"{words.count(one.row['n_relayed'])} of {words.plural(one.n_tested, 'tested pair')} the AND can be read better "
        "from its neurons than from those of its null layers, but for none of them any more once what the layer’s input "
        f"already holds of it is taken out of the layer and of the null layers{likewise}{none}."
    )


def _the_other(n: int) -> str:
    return "the other layer" if n == 1 else f"the other {words.count(n)} layers"


def _limit(rows: Sequence[LayerRow]) -> str:
    binding = [row for row in rows if not row["capacity"]["cannot_bind"]]
    if binding:
        return _bound(
            max(binding, key=lambda row: (row["n_computed"] or 0, -row["layer"])), len(rows) - len(binding)
        )
    row = max(rows, key=lambda row: row["n_tested"])
    capacity = row["capacity"]
    tested, n_neurons = words.plural(row["n_tested"], "tested pair"), words.count(row["n_neurons"])
    limit = f"{words.count(capacity['n2_over_ln_n'])} for {n_neurons} neurons (n²/ln n, constant 1 assumed)"
    few = row["n_tested"] < capacity["n2_over_ln_n"]
    if not capacity["vacuous"]:
        reason = f"with only {tested} no count could have exceeded {limit}"
    else:
        reason = (
            f"the layer’s weights have room to store any subset of {tested}, so the exact bound, which counts what they can "
            f"store, rules out no result (it is vacuous){', and' if few else '; for scale, the order is'} {limit}"
            f"{' is more than were tested' if few else ''}"
        )
    return f"{_THEORY}, and this run cannot put that to the test: {reason}."


_THEORY = "Theory says that n neurons can compute at most about n²/log n such ANDs"


def _bound(row: LayerRow, n_unbound: int) -> str:
    capacity = row["capacity"]
    reference, exact = capacity["n2_over_ln_n"], capacity["max_selected"]
    rest = (
        f"; in {words.plural(n_unbound, 'other layer')} no count possible could have exceeded it"
        if n_unbound
        else ""
    )
    bits = f"{words.mean(capacity['bits_per_param'])} bits a weight (assumed)"
    room = "" if exact is None else f", and the exact bound allows {words.count(exact)} at {bits}"
    return f"{_THEORY}: n²/ln n = {words.count(reference)} with constant 1 assumed{room}; {_side(row)}{rest}."


def _side(row: LayerRow) -> str:
    """On which side of the references the count of a layer lies, and what that does not mean."""
    found, exact = row["n_computed"], row["capacity"]["max_selected"]
    if found is None:
        return "no count was decided that could be set against it"
    over = [
        name
        for name, value in (("n²/ln n", row["capacity"]["n2_over_ln_n"]), ("the exact bound", exact))
        if value is not None and found > value
    ]
    if over:
        return (
            f"the count of layer {row['layer']}, {words.count(found)}, exceeds {words.listed(over)}, which would "
            "mean a "
            "regular set of pairs, false finds or too small a constant, never a refuted theorem"
        )
    return f"the count of layer {row['layer']}, {words.count(found)}, lies below, which leaves the limit untested"
