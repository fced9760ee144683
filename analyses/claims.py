"""What the three papers claim, and what this repository's studies measured of it: one row a claim.

    python analyses/claims.py                # seconds; writes results/claims.md, which docs/theory.md shows

Nothing is measured here. Every number is read from the page or the JSON that the named script wrote into results/, so that a
study that is run again changes its row; `tests/analyses/test_claims.py` fails while the page is older than what it reads.
The papers: Adler & Shavit (arXiv 2409.15318), Hänni, Mendel, Vaintrob & Chan (2408.05451) with the post that it grew
from (Vaintrob, Mendel & Hänni 2024), Adler, Alistarh & Shavit (2504.08842). Where a theorem is numbered, the number was
read in a public text that cites it; *abstract*: read there; *attributed*: known, and not read again.
"""

from __future__ import annotations

import argparse
import functools
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from count_against_parameters import counts_of, exponent, smollm2
from measured import RESULTS, table, write_page
from rates import S, slope

from probekit.theory import bounds

OUT = RESULTS / "claims.md"
AS, HMVC, AAS = "Adler & Shavit", "Hänni et al.", "Adler, Alistarh & Shavit"
POST = "Vaintrob, Mendel & Hänni"


@dataclass(frozen=True)
class Claim:
    """One row."""

    claim: str
    source: str
    measured: str
    holds: str
    scripts: tuple[str, ...]
    """Names in analyses/, or a path from the root."""

    def cells(self) -> tuple[str, ...]:
        """As the page shows them."""
        shown = (name if "/" in name else f"analyses/{name}" for name in self.scripts)
        measured = self.measured.replace("-0.00", "0.00")
        return self.claim, self.source, measured, self.holds, ", ".join(f"`{name}`" for name in shown)


# ----------------------------------------------------------------------------------------------- what the studies have kept


@functools.cache
def held(name: str) -> Any:
    """The JSON of a study."""
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


@functools.cache
def rows(name: str) -> tuple[dict[str, str], ...]:
    """Rows of all tables of a page, by the names of their columns; `section` is the heading they stand under."""
    found, section, columns = list[dict[str, str]](), "", list[str]()
    for line in (RESULTS / f"{name}.md").read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("#"):
            section = line.strip("# ")
        if not line.startswith("|"):
            columns = []
        elif not columns:
            columns = cells
        elif not set(line) <= set("|-: "):
            found.append({"section": section, **dict(zip(columns, cells, strict=True))})
    return tuple(found)


def chosen(name: str, **where: str) -> list[dict[str, str]]:
    """Rows of a page whose columns begin as named."""
    names = {key.replace("_", " "): value for key, value in where.items()}
    found = [
        row for row in rows(name) if all(row.get(key, "").startswith(value) for key, value in names.items())
    ]
    assert found, f"{name}.md has no row with {names}"
    return found


def number(text: str) -> float:
    """The number that a cell begins with."""
    return float(text.replace(",", "").split(" ")[0].rstrip("%"))


def width_row(construction: str) -> dict[str, str]:
    """The row of a construction among those of the widths needed."""
    return next(row for row in chosen("constructions", construction=construction) if "n needed" in row)


def ends(text: str) -> tuple[str, str]:
    """First and last of a list, thousands grouped."""
    held = [part.replace(",", "") for part in text.split(", ")]
    return f"{int(held[0]):,}", f"{int(held[-1]):,}"


def between(values: list[float], form: str) -> str:
    """Lowest and highest, or the one value where they look alike."""
    low, high = format(min(values), form), format(max(values), form)
    return low if low == high else f"{low} to {high}"


SLOPE = "slope of ln n on ln m' [95 %]"


# ----------------------------------------------------------------------------------------------------------- Adler & Shavit


def counting() -> Claim:
    """The counting bound, and what pruning leaves."""
    steps = [row for row in rows("compression") if "told" in row]
    share = max(number(row["told"]) / number(row["described"]) for row in steps)
    whole = {row["seed"]: number(row["weights kept"]) for row in reversed(steps) if row["bits each"] == "16"}
    left = {
        level: [
            number(row["designated computed"])
            for row in steps
            if row["bits each"] == "16"
            and abs(number(row["weights kept"]) / whole[row["seed"]] - level) < 0.02
        ]
        for level in (0.4, 0.1)
    }
    of = steps[0]["designated computed"].split("/")[1].strip()
    return Claim(
        "weights of P·b bits select at most as many features as they can tell apart, log₂ C(M, m′) ≤ P·b; so a layer "
        "can be made sparse only so far",
        f"{AS}, abstract; finite form derived",
        f"planted layers, {len(steps)} steps of pruning and rounding: the finds tell at most {100 * share:.1f} % of the "
        "bits of the "
        f"weights; of {of} pairs {between(left[0.4], '.0f')} are computed with 40 % of the weights, "
        f"{between(left[0.1], '.0f')} with 10 %",
        "at every step, and far from binding",
        ("compression.py",),
    )


def lower_bounds() -> Claim:
    """No construction lies below the lower bounds."""
    neurons = [
        number(n) / number(bound)
        for row in rows("constructions") if "n needed" in row and row["√(m' ln m')"] != "–"
        for n, bound in zip(row["n needed"].split(", "), row["√(m' ln m')"].split(", "), strict=True)
    ]  # fmt: skip
    params = [
        n * (n + 1) / (m * math.log(m))
        for row in held("rates")["chosen"]
        for m, widths in zip(row["outputs"], row["widths"], strict=True)
        for n in widths
    ]
    return Claim(
        "computing m′ features takes Ω(√(m′ log m′)) neurons and Ω(m′ log m′) parameters",
        f"{AS}, abstract",
        f"2-AND and permutation at 1 % of errors: {between(neurons, '.1f')} times √(m′ ln m′) neurons; 2-AND in three "
        "cases of "
        f"influence: {between(params, ',.0f')} times m′ ln m′ parameters n(d + 1)",
        "everywhere, constant 1",
        ("constructions.py", "rates.py"),
    )


def upper_bounds() -> Claim:
    """Exponents of the three influence cases."""
    told = list[str]()
    for row in held("rates")["chosen"]:
        n = slope(row["outputs"], row["widths"])
        p = slope(row["outputs"], [[w * (w + 1) for w in one] for one in row["widths"]])
        told.append(f"{row['name'].split()[0]} {_interval(n)} and {_interval(p)}")
    return Claim(
        "pairwise AND in O(√m′ log m′) neurons and O(m′ log² m′) parameters, whatever the influence",
        f"{AS}, abstract; influence cases attributed",
        f"`two_and`, superposed, 1 % of errors, exponents of n and of n(d + 1) in m′: {'; '.join(told)}; the forms have "
        "0.66 to "
        "0.67 and 1.33 to 1.34 over the same sizes",
        "below the order: 1 % of errors is allowed, and the logarithm is paid when all outputs must be right at once",
        ("rates.py",),
    )


def channel_size() -> Claim:
    """The construction with channels of log2 m′, as the paper has it."""
    row = width_row("2-AND low, superposed (d = n), c = log2 m'")
    (first, last), (m, m_last) = ends(row["n needed"]), ends(row["m'"])
    far = next(one for one in rows("constructions") if one.get("m'") == "1e6")
    return Claim(
        "the same with channels of log m′ neurons for each output",
        f"{AS}, attributed",
        f"{first} neurons for {m} ANDs to {last} for {m_last}; exponent {row[SLOPE]}, predicted {row['predicted slope']}, "
        "and "
        f"predicted to tend to ½ ({far['slope']} at 10⁶)",
        "yes, with ½ for the exponent",
        ("constructions.py",),
    )


def permuted() -> Claim:
    """Neural permutation."""
    row = width_row("permutation, linear")
    (first, last), (m, m_last) = ends(row["n needed"]), ends(row["m'"])
    return Claim(
        "neural permutation needs the order √(m′ log m′)",
        f"{AS}, abstract",
        f"`permutation`, linear: {first} neurons for {m} to {last} for {m_last}; exponent {row[SLOPE]}, last two "
        f"{row['slope of the last two']}",
        "above the lower bound everywhere",
        ("constructions.py",),
    )


def exponential_gap() -> Claim:
    """Represented against computed, by formula."""
    levels = bounds.gap(n_neurons=3_072, d_model=768)
    return Claim(
        "representing is exponentially cheaper than computing: O(log m′) neurons",
        f"{AS}, abstract, by Johnson–Lindenstrauss",
        f"by formula only: at d = 768 and 3,072 neurons 10^{levels['jl_reading'].log10:.1f} features represented for a "
        "typical "
        f"input, n²/ln n = 10^{levels['n2_over_ln_n'].log10:.1f}",
        "by formula",
        ("probekit/theory/gap.py",),
    )


def parameters() -> Claim:
    """Count against parameters."""
    table_ = pd.DataFrame(held("count_against_parameters"))
    told = dict[str, str]()
    for kind, mine in table_.groupby("kind"):
        counts = counts_of(mine, "computed")
        found = exponent(counts, counts.index.to_numpy(float), np.random.default_rng(0))
        told[str(kind)] = "hardly any" if found is None else _interval(found)
    real = [row["computed"] for row in smollm2()]
    tested = {row["tested"] for row in smollm2()}
    return Claim(
        "the number of parameters tells the number of features computed",
        f"{AS}, abstract; {AAS}, abstract",
        "exponent of the count by the rule, in neurons and, all reading the same 24 concepts, in parameters: nets trained "
        "on "
        f"chosen ANDs, 8 to 48 neurons, {told['trained ANDs']}; planted channels, 24 to 128 neurons, {told['planted']}; "
        "nets "
        f"trained on one DNF: {told['trained DNF']}; {len(real)} layers of SmolLM2: {min(real)} to {max(real)} of "
        f"{max(tested):,}",
        "in trained ANDs; not by this rule in the others",
        ("count_against_parameters.py",),
    )


def factors() -> Claim:
    """W = A·Φᵀ."""
    found = held("factored")
    planted = {row["layer"]: row for row in found["planted"]}
    basis, tight = planted["two_and, basis"], planted["two_and, d = 48"]
    nets = [row for row in found["trained"] if row["d"] is None]
    share = lambda part: between([100 * row["explained"] for row in found[part]], ".0f")
    layers = sorted({row["layer"] for row in found["smollm2"]})
    return Claim(
        "a weight matrix decompresses into concepts and computes sparsely on them",
        f"{AS}, attributed",
        f"planted channels: precision and recall of the entries {basis['precision'][0]:.2f} and {basis['recall'][0]:.2f} "
        "on a "
        f"basis, {tight['precision'][0]:.2f} and {tight['recall'][0]:.2f} at 64 concepts in 48 dimensions; nets trained on "
        f"chosen ANDs: {between([row['precision_net'][0] for row in nets], '.2f')} of the best-ranked pairs are targets "
        "(twins "
        f"{between([row['precision_twin'][0] for row in nets], '.2f')}); explained in nano {share('nano')} %, in layers "
        f"{', '.join(map(str, layers))} of SmolLM2 {share('smollm2')} %",
        "in circuits made so and in trained toy nets; hardly in real layers",
        ("factored.py",),
    )


# ------------------------------------------------------------------------------------------------------------- Hänni et al.


def universal_basis() -> Claim:
    """U-AND on a basis."""
    row = width_row("sparse U-AND, basis")
    (first, last), (m, m_last) = ends(row["n needed"]), ends(row["m'"])
    return Claim(
        "every AND of m concepts in polylog(m) neurons, basis-aligned inputs",
        f"{POST}, §1.2; {HMVC}",
        f"`sparse_uand`: {first} to {last} neurons for all {m} to {m_last} pairs of 16 to 256 concepts, exponent "
        f"{row[SLOPE]}",
        "yes",
        ("constructions.py",),
    )


def universal_superposed() -> Claim:
    """U-AND on superposed inputs."""
    ratios = [
        number(part)
        for row in chosen("constructions", construction="sparse U-AND, m = n")
        for part in row["measured / predicted"].split(" / ")
    ]
    sizes = next(row for row in held("rates")["universal"] if row["name"] == "sparse U-AND, superposed")
    far = held("rates")["far"]
    crossing = min(far, key=lambda row: abs(row["n"] / row["m"] - 1))
    return Claim(
        "every AND of m concepts in Õ(m^⅔) neurons with superposed inputs",
        f"{HMVC}, abstract; Theorem 8 for s-sparse circuits, Õ(m^⅔ s²); {POST}, §1.3",
        f"`sparse_uand`, m = n: errors {between(ratios, '.2f')} times those predicted; exponent of n over "
        f"{sizes['sizes'][0]} to {sizes['sizes'][-1]} concepts {_interval(slope(sizes['sizes'], sizes['widths']))}, "
        "predicted "
        f"to tend to {far[-1]['slope']:.2f}; by the prediction it computes more concepts than it has neurons from "
        f"m = {crossing['m']:,.0f} on",
        "as predicted at the sizes that run, where it takes more neurons than concepts; beyond, by prediction only",
        ("rates.py", "constructions.py", "tests/theory/test_uand.py"),
    )


def random_layers() -> Claim:
    """Random layers represent U-AND."""
    row = width_row("Gaussian layer, superposed")
    (m, m_last) = ends(row["m'"])
    needed = [number(part) for part in row["n needed"].split(", ")]
    return Claim(
        "randomly initialised layers make every AND readable",
        f"{HMVC}, Theorem 3; here by Stein's lemma",
        f"`gaussian_uand`, superposed: {between(needed, ',.0f')} neurons for {m} to {m_last} pairs, exponent "
        f"{row[SLOPE]}",
        "yes; why twins are needed",
        ("constructions.py",),
    )


def targeted() -> Claim:
    """Targeted superpositional AND."""
    found = chosen("constructions", construction="targeted AND")
    wrong = ", ".join(f"{number(row['worst-pattern error % (range)']):.2f}" for row in found)
    return Claim(
        "up to Θ̃(d²) chosen ANDs of superposed inputs in one layer",
        f"{POST}, §1.3; {HMVC}",
        f"`targeted_and`, m′ = n = d: {wrong} % of errors at n = {', '.join(row['n'] for row in found)}; beyond, see 2-AND",
        "tried at m′ = n = d only",
        ("constructions.py",),
    )


def corrected() -> Claim:
    """Error correction."""
    pays = held("rates")["pays"]
    size = lambda neurons, power, noise: next(
        row["d"] for row in pays if (row["neurons"], row["power"], row["noise"]) == (neurons, power, noise)
    )
    named = lambda d: "at no size" if d is None else f"from d = {d:,} on"
    helps, again = held("rates")["helps"], held("rates")["again"]
    better = [row for row in helps if np.mean(row["corrected_rms"]) < np.mean(row["plain_rms"])]
    seen = "; ".join(
        f"{', '.join(str(row['gates']) for row in better if row['d'] == d)} gates at d = {d:,}"
        for d in sorted({row["d"] for row in better})
    )
    fresh = [
        new < old for row in again for new, old in zip(row["corrected_rms"], row["plain_rms"], strict=True)
    ]
    return Claim(
        "error-correction layers keep deep circuits going",
        f"{HMVC}, abstract",
        f"circuits of three layers, n = 2d, {len(helps)} sizes of 16 to 256 gates in {helps[0]['d']} to {helps[-1]['d']:,} "
        f"dimensions: the last layer's error is lower with it at {seen or 'none'}, on fresh seeds at the largest in "
        f"{sum(fresh)} of {len(fresh)} circuits. By prediction, read noise 0.05: a recoded read is better "
        f"{named(size(1.0, 1.0, 0.05))} with m = n = d, {named(size(1.0, 1.5, 0.05))} with d^1.5 features, with "
        f"n = d^1.75 for these {named(size(1.75, 1.5, 0.05))}",
        "breaks even at some 4,096 dimensions, with few gates; for d^1.5 features only beyond what can be run here",
        ("rates.py", "constructions.py"),
    )


def depth() -> Claim:
    """Deep emulation."""
    plain, correct = held("rates")["deep"]
    flat = [width for one in plain["widths"] for width in one]
    dims, half = plain["dims"], len(plain["dims"]) // 2
    tell = lambda row: (
        f"{_interval(slope(row['dims'], row['widths']))}, upper half of the sizes "
        f"{_interval(slope(row['dims'][half:], row['widths'][half:]))}"
    )
    return Claim(
        "circuits of width Õ(d^1.5) and any polynomial depth in d dimensions",
        f"{HMVC}, abstract",
        f"three layers, n = 2d, 5 % of errors, d = {dims[0]} to {dims[-1]:,}: {min(flat)} to {max(flat)} gates a layer, "
        f"exponent in d {tell(plain)}; with correction {tell(correct)}; d^1.5 is {dims[-1] ** 1.5:,.0f} at the largest",
        "three layers only: rising faster than d^1.5 at these sizes, and far below it with constant 1",
        ("rates.py", "constructions.py"),
    )


def more_inputs() -> Claim:
    """ANDs of k."""
    return Claim(
        "ANDs of more than two concepts alike",
        f"{HMVC}, Lemma 5; {POST}, §1.4",
        "`sparse_uand`, 20 ANDs of three of 70 concepts in 1,024 neurons: below 5 % of errors, asserted by a test; no rate",
        "at the one size tried",
        ("tests/theory/test_uand.py",),
    )


def training() -> Claim:
    """What training finds."""
    found = [row for row in rows("trained_uand") if row["section"].endswith("loss balanced")]
    lead = [
        100 * (1 - number(_layer(found, n, "trained on balanced")) / number(_layer(found, n, "dense ±1")))
        for n in ("24", "48", "96")
    ]
    plain = [row for row in rows("trained_uand") if row["section"].endswith("loss mse")]
    mse, none = (
        _layer(plain, "24", "trained on mse", "mean square error"),
        _layer(plain, "–", "no layer", "mean square error"),
    )
    return Claim(
        "training finds computation in superposition",
        f"asked by {POST}; arXiv 2507.09816",
        f"24 concepts: with plain mean squares no universal AND at n = m (error {number(mse):.5f}; no layer at all "
        f"{number(none):.5f}); with balanced patterns an error {between(lead, '.0f')} % below that of random signs",
        "in part",
        ("trained_uand.py",),
    )


# -------------------------------------------------------------------------------------------------- Adler, Alistarh & Shavit


def channels() -> Claim:
    """Channels are in the weights."""
    found = held("channels")
    readable = [row for row in found["planted"] if row["readable"][0] >= 0.95]
    fdr = [row["fdr"] for row in (*found["nulls"], *found["dense"])]

    def told(inputs: str) -> str:
        mine = [row for row in readable if row["inputs"] == inputs]
        return (
            f"recall {between([row['recall'][0] for row in mine], '.2f')}, precision at least "
            f"{min(row['precision'][0] for row in mine):.3f}, {sum(row['recall'][0] >= 0.95 for row in mine)} of "
            f"{len(mine)} "
            "settings with 0.95 or more"
        )

    return Claim(
        "features are computed through channels that the weights show",
        f"{AAS}, abstract",
        f"planted channels where theory reads 0.95 or more of them: basis inputs: {told('basis')}; superposed: "
        f"{told('superposed')}; {len(fdr)} kinds of random layers and twins, 100 of each: something found in at most "
        f"{100 * max(fdr):.0f} %; sets in nano {sum(r['sets'] for r in found['real'] if r['model'] == 'nano')}, in "
        f"SmolLM2's layer 0 {sum(r['sets'] for r in found['real'] if r['model'] != 'nano')}",
        "in circuits made so; not in trained language models",
        ("channels.py",),
    )


def formulas() -> Claim:
    """Nets trained on formulas."""
    found = held("channels")["formulas"]
    told = "; ".join(
        f"{row['terms']} terms in {row['neurons']} neurons: recall {row['recall'][0]:.2f}, precision "
        f"{row['precision'][0]:.2f}"
        for row in found
    )
    gates = [
        sum(row["gates"].get("and", 0) for row in found),
        sum(sum(row["gates"].values()) for row in found),
    ]
    return Claim(
        "small nets trained by gradient descent can be read whole from the signs of their weights",
        f"{AAS}, abstract",
        f"nets trained on DNFs, dense levels, neurons that raise and lower the output apart: {told}; {gates[0]} of the "
        f"{gates[1]} terms found read as AND",
        "all terms from 64 neurons on, most of them as ANDs; at 32 in two nets of three, as ORs",
        ("channels.py",),
    )


def beside() -> Claim:
    """Without activations."""
    found = held("channels")["beside"]
    return Claim(
        "static analysis does without activations",
        f"{AAS}, abstract",
        f"nano, {len(found)} layers: rank correlation of channel scores with d′ "
        f"{between([row['correlation'] for row in found], '.2f')}, p against twins of the codes "
        f"{between([row['p_correlation'] for row in found], '.2f')}",
        "no agreement beyond twins' in nano",
        ("channels.py",),
    )


def _layer(found: list[dict[str, str]], n: str, layer: str, column: str = "balanced") -> str:
    return next(row[column] for row in found if row["n"] == n and row["first layer"].startswith(layer))


def _interval(found: tuple[float, float, float]) -> str:
    return f"{found[0]:.2f} [{found[1]:.2f}, {found[2]:.2f}]"


CLAIMS = (
    counting, lower_bounds, upper_bounds, channel_size, permuted, exponential_gap, parameters, factors, universal_basis,
    universal_superposed, random_layers, targeted, more_inputs, corrected, depth, training, channels, formulas, beside,
)  # fmt: skip


def page() -> Iterator[str]:
    """The table."""
    yield "# The claims of the papers, put to the test\n"
    yield (
        "`python analyses/claims.py`, from the results of the scripts named. *Holds* is said of the sizes and settings in "
        "the "
        f"script, s = {S} concepts on where nothing else is said, not in general; constants are taken to be 1 wherever an "
        "order stands beside a count.\n"
    )
    yield from table(
        ("claim", "source", "measured here", "holds", "script"), (make().cells() for make in CLAIMS)
    )


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, default=OUT)
    write_page(page(), str(parser.parse_args().out))


if __name__ == "__main__":
    main()
