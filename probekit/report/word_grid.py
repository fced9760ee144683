"""The word grid as a chart and as a page: every layer beside its twins, the residual stream, the arms, the words.

Text of words and contexts comes from a corpus and may hold anything: the template escapes every string. Same input, same
bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import pandas as pd

from probekit.evidence.word_grid import DECIDING, SITES
from probekit.report import words
from probekit.report.canvas import ACCENT, INK, MUTED, PAPER, TWIN, to_svg
from probekit.report.environment import environment
from probekit.report.page import Figure
from probekit.report.tables import Table

PANELS = ("input", "neurons", DECIDING)
"""Sites of the first figure."""
ARM_SITES = ("input", DECIDING)
ARM_LABELS = {
    "rare": "rare words",
    "matched": "pieces of longer words",
    "phrases": "frequent phrases",
}
SET_LABELS = {"A": "words, set A", "B": "words, set B"}
TITLES: dict[str, tuple[str, str]] = {
    "grid": (
        "How far words stand out from crosses",
        "z by layer · dot, line: mean, range of both word sets · grey: plain twins left, relay-matched right, range, mean",
    ),
    "stream": (
        "Words in the residual stream",
        "d′ by layer · open: before the MLP · filled: after it · grey tick: the highest twin after it",
    ),
    "arms": (
        "What else lights up along the words’ direction",
        "effect relative to the words’ (dashes: 1) · open: MLP input · filled: MLP output given the input",
    ),
}
_CAPTIONS = {
    "grid": (
        "Under the null every pairing of suffixes to prefixes scores alike, and z is about standard normal. The input shows "
        "what earlier layers have brought; only what stands above the grey bars in the last panel is added by this layer, "
        "nonlinearly, beyond what random layers add to the same input."
    ),
    "stream": (
        "d′ is the distance of words from crosses in standard deviations of the crosses. The direction is learned on the "
        "other word set at each place anew."
    ),
    "arms": (
        "1 means that these pairs stand out from their crosses as the words do. Pieces and phrases are no words: as far as "
        "they reach 1, what was found is “this pair has been seen”, not “this is a word”."
    ),
}


@runtime_checkable
class Shown(Protocol):
    """What a page shows of a word grid."""

    @property
    def layers(self) -> pd.DataFrame:
        """One row a layer."""
        ...

    @property
    def sites(self) -> pd.DataFrame:
        """One row a layer, site and word set."""
        ...

    @property
    def twins(self) -> pd.DataFrame:
        """One row a layer, site, word set, kind and twin."""
        ...

    @property
    def arms(self) -> pd.DataFrame:
        """One row a layer, site and arm."""
        ...

    @property
    def pseudo(self) -> pd.DataFrame:
        """One row a layer, site, word set and draw."""
        ...

    @property
    def words(self) -> pd.DataFrame:
        """One row a word or pair."""
        ...

    @property
    def contexts(self) -> tuple[str, ...]:
        """What stands before every cell."""
        ...

    @property
    def summary(self) -> dict[str, Any]:
        """Model, text, sizes, settings, notes."""
        ...


# -------------------------------------------------------------------------------- in words


def answer(grid: Shown) -> tuple[str, str, str]:
    """The answer in three sentences: what was asked, what was found, what it does not say."""
    summary = grid.summary
    size, twins = summary["groups"]["A"], summary["settings"]["twins"]
    asked = (
        f"Whether each of {words.plural(len(summary['layers']), 'layer')} of {summary['model']['name']} computes that two "
        f"tokens are a word: two sets of {words.count(size)} words each, all combinations of their halves, behind "
        f"{words.plural(summary['settings']['n_contexts'], 'context')}."
    )
    return asked, _found(grid.layers, twins, summary["level"]), _limit(grid)


def _found(layers: pd.DataFrame, twins: int, level: float) -> str:
    if not twins:
        seen = layers[layers[f"p_{DECIDING}"] <= level]
        told = _named(seen) if len(seen) else "no layer"
        return (
            f"Without twins nothing is said about computation; p ≤ {level} in both word sets, given the input, "
            f"uncorrected, in {told}."
        )
    adding = layers[layers["adds"].astype(bool)]
    brought = layers[layers["p_input"] <= level]
    whence = f"the input knows the words in {_named(brought)}" if len(brought) else "no input knows the words"
    if not len(adding):
        return f"No layer adds to it what its twins do not add as well; {whence}."
    z = adding[f"z_{DECIDING}"]
    return (
        f"{_named(adding).capitalize()} {'adds' if len(adding) == 1 else 'add'} to it, beyond a linear reading of the input "
        f"and beyond every kind of twin (z {words.real(z.min(), 1)} to {words.real(z.max(), 1)} in the mean of both word "
        f"sets, family-wise level {level}); {whence}."
    )


def _named(layers: pd.DataFrame) -> str:
    numbers = [str(layer) for layer in layers["layer"]]
    return f"{'layer' if len(numbers) == 1 else 'layers'} {words.listed(numbers)}"


def _limit(grid: Shown) -> str:
    arms = grid.arms
    if arms.empty or "matched" not in set(arms["arm"]):
        return "A word is also a pair of tokens that the model has often seen; without the arms nothing tells the two apart."
    layers = grid.layers
    shown = layers[layers["adds"].astype(bool)] if layers["adds"].notna().all() else layers.iloc[:0]
    chosen = shown if len(shown) else layers
    site = (
        DECIDING if DECIDING in set(arms["site"]) else "input"
    )  # with few words nothing is left given the input
    rows = arms[(arms["site"] == site) & arms["layer"].isin(chosen["layer"])]
    parts = [
        f"{ARM_LABELS[str(arm)]} {words.real(part['relative'].median())}"
        for arm, part in rows.groupby("arm", sort=False)
    ]
    return (
        "A word is also a pair of tokens that the model has often seen. Along the words’ direction the effect of other "
        f"pairs, relative to the words’, is in the median of {_named(chosen)} at the {SITES[site]}: {words.listed(parts)}."
    )


# -------------------------------------------------------------------------------- figures


def grid_chart(grid: Shown) -> Any:
    """z by layer at the input, the neurons and the output given the input, each beside its twins."""
    import altair as alt

    records = [
        {
            "layer": int(row["layer"]),
            "panel": SITES[site],
            "z": row[f"z_{site}"],
            **_range(grid, int(row["layer"]), site),
        }
        for row in grid.layers.to_dict("records")
        for site in PANELS
    ]
    frame = pd.DataFrame(records)
    x = alt.X("layer:O", title="layer", axis=alt.Axis(labelAngle=0))
    base = alt.Chart()
    marks = [base.mark_rule(color=MUTED, strokeWidth=1).encode(y=alt.datum(0))]
    for kind, shift in (("plain", -5), ("relay", 5)):
        marks += [
            base.mark_bar(width=7, color=TWIN, opacity=0.45, xOffset=shift).encode(
                x=x, y=alt.Y(f"{kind}_low:Q", title="z"), y2=f"{kind}_high:Q"
            ),
            base.mark_tick(thickness=2, size=9, color=TWIN, opacity=1, xOffset=shift).encode(
                x=x, y=f"{kind}_mean:Q"
            ),
        ]
    marks += [
        base.mark_rule(color=ACCENT, strokeWidth=1.5).encode(x=x, y="low:Q", y2="high:Q"),
        base.mark_point(filled=True, size=60, color=ACCENT, opacity=1).encode(x=x, y="z:Q"),
    ]
    width = max(130, min(260, 22 * len(grid.layers)))
    layered = alt.layer(*marks, data=frame).properties(width=width, height=220)
    return _panels(layered, [SITES[site] for site in PANELS]).resolve_scale(y="independent")


def _range(grid: Shown, layer: int, site: str) -> dict[str, float | None]:
    own = grid.sites[(grid.sites["layer"] == layer) & (grid.sites["site"] == site)]["z"]
    found: dict[str, float | None] = {"low": float(own.min()), "high": float(own.max())}
    for kind in ("plain", "relay"):
        values = None
        if not grid.twins.empty:
            twins = grid.twins
            chosen = twins[(twins["layer"] == layer) & (twins["site"] == site) & (twins["kind"] == kind)]
            values = chosen.groupby("twin")["z"].mean()
        for name, of in (("low", "min"), ("mean", "mean"), ("high", "max")):
            found[f"{kind}_{name}"] = None if values is None or values.empty else float(getattr(values, of)())
    return found


def _stream_chart(grid: Shown) -> Any:
    import altair as alt

    frame = grid.layers[["layer", "d_before", "d_after", "d_after_twins"]]
    if frame["d_after"].isna().all():
        return None
    x = alt.X("layer:O", title="layer", axis=alt.Axis(labelAngle=0))
    base = alt.Chart(frame)
    return alt.layer(
        base.mark_rule(color=ACCENT, strokeWidth=1.5).encode(
            x=x, y=alt.Y("d_before:Q", title="d′"), y2="d_after:Q"
        ),
        base.mark_tick(thickness=3, size=16, color=TWIN, opacity=1).encode(x=x, y="d_after_twins:Q"),
        base.mark_point(filled=True, size=60, color=ACCENT, opacity=1).encode(x=x, y="d_after:Q"),
        base.mark_point(filled=True, fill=PAPER, stroke=ACCENT, strokeWidth=1.8, size=55, opacity=1).encode(
            x=x, y="d_before:Q"
        ),
    ).properties(width=max(220, 40 * len(frame)), height=220)


def _arms_chart(grid: Shown) -> Any:
    import altair as alt

    if grid.arms.empty:
        return None
    frame = grid.arms[grid.arms["site"].isin(ARM_SITES)][["layer", "site", "arm", "relative"]].copy()
    frame["panel"] = frame["arm"].map(ARM_LABELS)
    x = alt.X("layer:O", title="layer", axis=alt.Axis(labelAngle=0))
    fill = alt.Fill("site:N", scale=alt.Scale(domain=list(ARM_SITES), range=[PAPER, ACCENT]), legend=None)
    base = alt.Chart()
    layered = alt.layer(
        base.mark_rule(color=MUTED, strokeWidth=1).encode(y=alt.datum(0)),
        base.mark_rule(color=MUTED, strokeWidth=1, strokeDash=[4, 3]).encode(y=alt.datum(1)),
        base.mark_point(stroke=ACCENT, strokeWidth=1.8, size=55, opacity=1).encode(
            x=x, y=alt.Y("relative:Q", title="effect ÷ words’"), fill=fill
        ),
        data=frame,
    ).properties(width=max(130, min(260, 22 * len(grid.layers))), height=180)
    return _panels(layered, [label for arm, label in ARM_LABELS.items() if arm in set(frame["arm"])])


def _panels(layered: Any, shown: Sequence[str]) -> Any:
    import altair as alt

    header = alt.Header(
        title=None, labelAnchor="start", labelFontSize=13, labelFontWeight=600, labelColor=INK, labelPadding=6
    )
    facet = alt.Facet("panel:N", sort=list(shown), title=None, header=header)
    return layered.facet(facet=facet, columns=len(shown), spacing={"row": 18, "column": 30})


def word_grid_figures(grid: Shown) -> dict[str, str]:
    """Every figure for which there are numbers: name → SVG text."""
    drawn = {"grid": grid_chart(grid), "stream": _stream_chart(grid), "arms": _arms_chart(grid)}
    said = "; ".join(
        f"layer {row['layer']}: z {words.real(row['z_input'], 1)} at the input, "
        f"{words.real(row[f'z_{DECIDING}'], 1)} given it"
        for row in grid.layers.to_dict("records")
    )
    return {
        name: to_svg(chart, f"word-{name}", *TITLES[name], f"{TITLES[name][1]}. {said}.")
        for name, chart in drawn.items()
        if chart is not None
    }


# -------------------------------------------------------------------------------- tables


def layers_table(grid: Shown) -> Table:
    """The decision, layer by layer."""
    return Table(
        f"z (mean of both word sets) and, below, the larger exact p; smallest possible p "
        f"{words.probability(grid.summary['smallest_p'])}.",
        (
            "Layer",
            "Input",
            "Neurons",
            "Output",
            "Given the input",
            "Margin over plain twins",
            "over relay-matched",
            "p, Holm",
            "Adds",
        ),
        tuple(
            (
                str(row["layer"]),
                *(
                    f"{words.real(row[f'z_{site}'], 1)}\n{words.probability(row[f'p_{site}'])}"
                    for site in ("input", "neurons", "output", DECIDING)
                ),
                *(
                    f"{words.real(row[f'margin_{kind}'], 1)}\n{words.probability(row[f'p_{kind}'])}"
                    for kind in ("plain", "relay")
                ),
                words.probability(row["p_holm"]),
                words.NONE if row["adds"] is None else "yes" if row["adds"] else "no",
            )
            for row in grid.layers.to_dict("records")
        ),
    )


def _sites_table(grid: Shown) -> Table:
    return Table(
        "Every site and word set; the direction is learned on the other set.",
        ("Layer", "Site", "Words", "z", "p", "d′", "d′, canonical crosses", "AUC"),
        tuple(
            (
                str(row["layer"]),
                SITES[row["site"]],
                str(row["words"]),
                words.real(row["z"], 1),
                words.probability(row["p"]),
                words.real(row["d_prime"]),
                words.real(row["d_prime_canonical"]),
                words.real(row["auc"]),
            )
            for row in grid.sites.to_dict("records")
        ),
        n_text=3,
    )


def _stream_table(grid: Shown) -> Table:
    return Table(
        "d′ of the residual stream, mean of both word sets.",
        ("Layer", "Before the MLP", "After the MLP", "Highest twin after it"),
        tuple(
            (str(row["layer"]), *(words.real(row[name]) for name in ("d_before", "d_after", "d_after_twins")))
            for row in grid.layers.to_dict("records")
        ),
    )


def _arms_table(grid: Shown) -> Table:
    rows = grid.arms[grid.arms["site"].isin(ARM_SITES)]
    return Table(
        "Other pairs along the direction learned on word set B; the last column: p of the words of set A scoring higher.",
        ("Layer", "Site", "Pairs", "Number", "z", "p", "d′", "Effect ÷ words’", "p, words higher"),
        tuple(
            (
                str(row["layer"]),
                SITES[row["site"]],
                ARM_LABELS[row["arm"]],
                words.count(row["n_pairs"]),
                words.real(row["z"], 1),
                words.probability(row["p"]),
                words.real(row["d_prime"]),
                words.real(row["relative"]),
                words.probability(row["p_words_above"]),
            )
            for row in rows.to_dict("records")
        ),
        n_text=3,
    )


def _words_table(grid: Shown) -> Table:
    rows: list[tuple[str, ...]] = []
    for group, part in grid.words.groupby("group", sort=False):
        label = {**SET_LABELS, **ARM_LABELS}[str(group)]
        shown = [
            f"{words.visible(row['prefix']).strip()}|{words.visible(row['suffix'])}"
            for row in part.to_dict("records")
        ]
        counts = f"{words.count(part['n'].median())}"
        rows.append((label, " ".join(shown), words.count(len(part)), counts))
    return Table(
        "Every pair, its two tokens divided by a bar.",
        ("Group", "Pairs", "Number", "Median count"),
        tuple(rows),
        n_text=2,
    )


def _pseudo_table(grid: Shown) -> Table:
    found = grid.pseudo.groupby("site", sort=False)["p"].agg(["size", lambda p: float((p <= 0.05).mean())])
    return Table(
        "Pairings without a word in the words’ place: share of draws with p ≤ 0.05, wanted about 5 %.",
        ("Site", "Draws", "Share"),
        tuple(
            (SITES[str(site)], words.count(n), words.percent(share)) for site, n, share in found.itertuples()
        ),
    )


# -------------------------------------------------------------------------------- the page

_TABLES = {"grid": layers_table, "stream": _stream_table, "arms": _arms_table}


def render_word_grid(grid: Shown) -> str:
    """The page as one HTML text."""
    summary = grid.summary
    drawn = word_grid_figures(grid)
    return (
        environment()
        .get_template("word_grid.html")
        .render(
            title=f"Words in {summary['model']['name']}",
            subtitle=_subtitle(summary),
            answer=list(zip(("Asked", "Found", "The limit"), answer(grid), strict=True)),
            figures=[
                Figure(TITLES[name][0], svg, _CAPTIONS[name], _TABLES[name](grid))
                for name, svg in drawn.items()
            ],
            sites=_sites_table(grid),
            pseudo=_pseudo_table(grid),
            words=_words_table(grid),
            contexts=[words.visible(context) for context in grid.contexts],
            canonical=[
                ({**SET_LABELS, **ARM_LABELS}[name], words.percent(share, 0))
                for name, share in summary["canonical_crosses"].items()
            ],
            notes=summary["notes"],
            settings=summary["settings"],
            corpus=summary["corpus"],
            by_rule=summary["words_by_rule"],
            level=summary["level"],
        )
    )


def summary_html(grid: Shown) -> str:
    """What a notebook shows: the answer, the first figure, the table of layers."""
    svg = to_svg(grid_chart(grid), "word-grid", *TITLES["grid"], answer(grid)[1])
    table = grid.layers.to_html(index=False, float_format=lambda value: f"{value:.3g}")
    return f"<p>{_escaped(answer(grid)[1])}</p>{svg}{table}"


def _escaped(text: str) -> str:
    import html

    return html.escape(text)


def _subtitle(summary: Mapping[str, Any]) -> str:
    model, settings = summary["model"], summary["settings"]
    kind = f"{model['activation']}, gated" if model["gated"] else model["activation"]
    twins = words.plural(settings["twins"], "twin") if settings["twins"] else "no twins"
    return (
        f"{words.plural(len(summary['layers']), 'layer')} of {words.count(model['n_layers'])}, "
        f"{words.count(model['d_mlp'])} neurons each ({kind}) · {twins} a layer, plain and relay-matched · "
        f"text: {summary['corpus']['name']}, "
        f"{words.count(summary['corpus']['n_tokens'])} tokens"
    )
