"""The pictures of docs/theory.md: the gap from the formulas, the others from the results that are kept.

    python analyses/theory_pictures.py       # seconds; writes docs/images/theory-*.svg

Each picture is drawn by the script that measured it (`picture` in count_against_parameters.py, factored.py, rates.py)
from its JSON in analyses/results/; here the gap and the channel decoder are added.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import altair as alt
import count_against_parameters
import factored
import pandas as pd
import rates
from measured import RESULTS, ROOT

from probekit.evidence.gap import shape
from probekit.report import gap
from probekit.report.canvas import ACCENT, INK, to_svg
from probekit.storage.store import write_text

IMAGES = ROOT / "docs" / "images"
STUDIES = {
    "count": (count_against_parameters.picture, "count_against_parameters"),
    "factored": (factored.picture, "factored"),
    "rates": (rates.picture, "rates"),
}


def held(name: str) -> Any:
    """The numbers of a study."""
    return json.loads((RESULTS / f"{name}.json").read_text())


def gap_of_gpt2() -> str:
    """The levels of a layer of GPT-2 small against its width."""
    drawn = gap.svg([shape(3_072, 768, n_concepts=10_000)])
    assert drawn is not None
    return drawn


def decoder() -> str:
    """Recall of the decoder on planted circuits beside what counting allows."""
    rows = pd.DataFrame(
        [
            {"layer": f"n = {row['n']}, m′ = {row['pairs']}" + ("" if row["d"] is None else f", d = {row['d']}"),
             "inputs": row["inputs"], "decoded": row["recall"][0], "readable": row["readable"][0], "order": number}
            for number, row in enumerate(held("channels")["planted"])
        ]
    )  # fmt: skip
    y = alt.Y("layer:N", title=None, sort=alt.SortField("order"), axis=alt.Axis(labelLimit=220, grid=True))
    title, scale = "recall of the planted pairs", alt.Scale(domain=[0, 1])
    base = alt.Chart(rows).encode(y=y)
    found = base.mark_point(filled=True, size=80, opacity=1, color=ACCENT).encode(
        x=alt.X("decoded:Q", title=title, scale=scale)
    )
    counted = base.mark_tick(thickness=2, size=16, color=INK).encode(
        x=alt.X("readable:Q", title=title, scale=scale)
    )
    panels = [
        alt.layer(
            found.transform_filter(alt.datum.inputs == inputs),
            counted.transform_filter(alt.datum.inputs == inputs),
        ).properties(width=280, title=f"{inputs} inputs")
        for inputs in ("basis", "superposed")
    ]
    return to_svg(
        alt.hconcat(*panels), "decoder", "Channels decoded from the weights of planted circuits",
        "points: recall of the decoder; ticks: recall that counting allows on the wiring, read noise included",
        "On basis inputs the decoder finds what counting allows; on superposed ones nearly that.",
    )  # fmt: skip


def main() -> None:
    """Draw them all."""
    drawings = {"gap": gap_of_gpt2(), "decoder": decoder()}
    for name, (picture, study) in STUDIES.items():
        drawings[name] = picture(held(study))
    for name, svg in drawings.items():
        target: Path = IMAGES / f"theory-{name}.svg"
        write_text(target, svg)
        print(target.relative_to(ROOT))


if __name__ == "__main__":
    main()
