"""The picture of the README: the two runs of `probekit demo` side by side.

    probekit demo --out demo-report && python analyses/picture.py demo-report

Writes docs/images/demo.svg. The picture shows the four rungs of the planted circuit and of every layer of nano beside their
twins, at the settings of the demo.
"""

from __future__ import annotations

import sys
from pathlib import Path

import probekit as pk
from probekit.report.compare import Compared, comparison_figures
from probekit.report.paper import printed

NAMES = {"planted": "planted circuit", "nano": "nano"}


def main(folder: Path) -> None:
    """Draw it."""
    held = {name: pk.load(folder / name) for name in NAMES}
    runs = [Compared(NAMES[name], run.summary, run.record["science"]) for name, run in held.items()]
    svg = printed(comparison_figures(runs)["rungs"], width_mm=230).svg
    target = Path(__file__).parents[1] / "docs" / "images" / "demo.svg"
    target.write_text(svg, encoding="utf-8")
    print(target)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "demo-report"))
