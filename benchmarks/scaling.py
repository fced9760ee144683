"""How time grows with pairs, tokens, neurons and layers, and the exponents that the formulas foretell."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch

from benchmarks.selection import K, only
from benchmarks.table import RESULTS, Goal, Table, digits
from benchmarks.timing import in_turns
from probekit.model.harvest import harvest
from probekit.model.hooked_model import load_hooked_model
from probekit.probes.lists import token_lists
from probekit.probes.moments import Moments
from probekit.probes.pairs import LabelColumns, all_pairs
from probekit.probes.select import forward_select
from probekit.probes.tiles import STRIP, TILE
from probekit.report.canvas import ACCENT, INK, TWIN, to_svg
from probekit.storage.store import write_text
from probekit.text.tokens import Tokens

TOLERANCE = 0.2
"""Largest departure of an exponent that counts as the formula's: caches and fixed costs bend the lines a little."""
PEER = "product XᵀX (torch)"


def exponent(sizes: Sequence[int], seconds: Sequence[float]) -> float:
    """Slope of the least-squares line through the logarithms."""
    return float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])


def run(*, quick: bool) -> Table:
    """The table and its four figures."""
    table = Table(
        "scaling",
        "Time against pairs, tokens, neurons and layers",
        f"k = {K}, one thread, processor time, least-squares slopes of the logarithms. Formulas: selection "
        "P·(n·k² + 8·n·k); "
        f"pass over the tokens N·n·(n + {STRIP}) for the Gram matrix, by strips of the upper triangle, and N·s²·n/2 for "
        "the pairs; the forward and the pass in proportion to the layers read. Products of small matrices run at a "
        "lower rate than those of large ones, which bends that line: torch's product of the same tile stands beside it.",
        ["against", "what", "sizes", "seconds", "exponent", "formula"],
    )
    lines: dict[str, list[dict[str, Any]]] = {}
    for against, measure in (
        ("pairs", _pairs),
        ("tokens", _tokens),
        ("neurons", _neurons),
        ("layers", _layers),
    ):
        lines[against] = []
        for what, sizes, seconds, formula in measure(quick):
            slope = exponent(sizes, seconds)
            told = ", ".join(f"{size:,}" for size in sizes)
            table.rows.append(
                [
                    against,
                    what,
                    told,
                    ", ".join(f"{digits(s):g}" for s in seconds),
                    round(slope, 2),
                    round(formula, 2),
                ]
            )
            off = abs(slope - formula)
            if what != PEER:
                table.goals.append(
                    Goal(f"exponent of {what} in {against}, off by", TOLERANCE, round(off, 2), at_most=True)
                )
            for n, s in zip(sizes, seconds, strict=True):
                lines[against].append({"size": n, "seconds": s, "what": f"{what}: {slope:.2f}"})
    if not quick:
        for against, rows in lines.items():
            table.figures.append(f"scaling-{against}.svg")
            write_text(RESULTS / table.figures[-1], _figure(against, rows))
    return table


Line = tuple[str, Sequence[int], Sequence[float], float]


def _stream(n_tokens: int, n_neurons: int, n_concepts: int = 64, n_active: float = 6) -> Callable[[], Moments]:  # fmt: skip
    rng = np.random.default_rng(0)
    x = rng.standard_normal((n_tokens, n_neurons), dtype=np.float32)
    truth = rng.random((n_tokens, n_concepts)) < n_active / n_concepts
    docs = np.arange(n_tokens) // 50

    def go() -> Moments:
        moments = Moments(n_neurons, n_concepts)
        moments.update(x, truth, docs)
        moments.finalize()
        return moments

    return go


def _timed(ways: dict[int, Callable[[], object]], quick: bool) -> list[float]:
    times = in_turns({str(size): (go, 1) for size, go in ways.items()}, n_rounds=1 if quick else 3)
    return [times[str(size)].each for size in ways]


def _pairs(quick: bool) -> list[Line]:
    frozen = _stream(8_192, 512)().finalize()
    sizes = (500, 1_000, 2_000, 4_000, 8_000)
    parts = {n: only(frozen, np.arange(n) % len(frozen.pairs)) for n in sizes}
    seconds = _timed({n: lambda p=p: forward_select(p, K) for n, p in parts.items()}, quick)
    return [("selection", sizes, seconds, 1.0)]


def _tokens(quick: bool) -> list[Line]:
    sizes = (8_192, 16_384, 32_768, 65_536)
    streams = {n: _stream(n, 512) for n in sizes}
    held = {n: go().finalize() for n, go in streams.items()}
    passes = _timed(dict(streams), quick)
    selections = _timed({n: lambda f=f: forward_select(f, K) for n, f in held.items()}, quick)
    return [("the pass", sizes, passes, 1.0), ("selection", sizes, selections, 0.0)]


def _neurons(quick: bool) -> list[Line]:
    sizes = (256, 512, 1_024, 2_048, 4_096) if quick else (256, 512, 1_024, 2_048, 4_096, 8_192)
    none = token_lists(LabelColumns.from_dense(np.zeros((TILE, 2), bool)), all_pairs(2))
    gram, product = [], []
    for n in sizes:
        few = Moments(n, 2, pairs=all_pairs(2))
        rows = torch.from_numpy(np.random.default_rng(0).standard_normal((TILE, n), dtype=np.float32))
        seconds = in_turns(
            {
                "gram": (lambda f=few, r=rows: f.add_tile(r, none), 1),
                "product": (lambda r=rows: r.T @ r, 1),
            },
            n_rounds=1 if quick else 3,
        )
        gram.append(seconds["gram"].each)
        product.append(seconds["product"].each)
    by_strips = exponent(sizes, [n * (n + STRIP) for n in sizes])
    narrower = sizes[:5]
    held = {n: _stream(8_192, n)().finalize() for n in narrower}
    selection = _timed({n: lambda f=f: forward_select(f, K) for n, f in held.items()}, quick)
    return [
        ("Gram matrix", sizes, gram, by_strips), (PEER, sizes, product, 2.0),
        ("selection", narrower, selection, 1.0),
    ]  # fmt: skip


def _layers(quick: bool) -> list[Line]:
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(n_layer=8, n_embd=256, n_head=4, vocab_size=1_000, n_positions=128)
    hooked = load_hooked_model(GPT2LMHeadModel(config).eval(), device="cpu")
    ids = np.random.default_rng(0).integers(0, 1_000, (64, 128)).astype(np.int32)
    tokens = Tokens(ids=ids, lengths=np.full(64, 128), bos_id=None, name="random")
    truth = np.random.default_rng(1).random((tokens.n_tokens, 64)) < 6 / 64
    sizes = (1, 2, 4, 8)

    def go(n_layers: int) -> None:
        streams = [Moments(hooked.d_mlp, 64) for _ in range(n_layers)]
        for block in harvest(hooked, tokens, np.arange(64), range(n_layers)):
            for layer, (_, neurons) in block.sites.items():
                streams[layer].update(neurons, truth[block.tokens], block.tokens // 128)
        for stream in streams:
            forward_select(stream.finalize(), K)

    seconds = _timed({n: lambda n=n: go(n) for n in sizes}, quick)
    return [("forward, pass and selection", sizes, seconds, 1.0)]


def _figure(against: str, rows: list[dict[str, Any]]) -> str:
    import altair as alt

    frame = pd.DataFrame(rows)
    names = list(dict.fromkeys(frame["what"]))
    colour = alt.Color(
        "what:N",
        scale=alt.Scale(domain=names, range=[ACCENT, TWIN, INK][: len(names)]),
        legend=alt.Legend(title=None),
    )
    ticks = alt.Axis(values=sorted(set(frame["size"])), format=",d")
    x = alt.X("size:Q", scale=alt.Scale(type="log", nice=False), title=against, axis=ticks)
    y = alt.Y("seconds:Q", scale=alt.Scale(type="log"), title="seconds")
    base = alt.Chart(frame).encode(x=x, y=y, color=colour)
    chart = alt.layer(base.mark_line(), base.mark_point(filled=True, size=50)).properties(
        width=380, height=240
    )
    told = "; ".join(f"{name} (exponent)" for name in names)
    return to_svg(
        chart, f"scaling-{against}", f"Time against {against}", "logarithmic axes; number: exponent", told
    )
