"""The three-sentence answers that "how to read a report" shows, from the numbers of finished runs.

    python analyses/answers.py demo=demo-report/runs/planted nothing=RUN relay=RUN smollm2=RUN

Writes analyses/results/answers.json: of each run what the answer is made of, and where it comes from. Sentences are made
anew by `tests/report/test_answer_examples.py`, which holds the page to them. The runs: `make demo` (planted circuit),
notebook 06 (nothing found), notebook 03 (a relay) and `analyses/new_york.py` (SmolLM2).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import probekit as pk

RESULTS = Path(__file__).parent / "results"

KEPT = (
    "layer", "n_tested", "n_neurons", "n_twins", "n_above_twins", "n_at_least_above", "n_relayed", "n_computed",
    "n_superposed",
)  # fmt: skip
CAPACITY = ("cannot_bind", "vacuous", "n2_over_ln_n", "max_selected", "bits_per_param")


def kept(row: dict[str, Any]) -> dict[str, Any]:
    """What `probekit.report.answer` reads of a layer."""
    twins, sensitivity = row["twins"], row.get("sensitivity")
    return {
        **{key: row.get(key) for key in KEPT},
        "twins": twins and {key: twins[key] for key in ("n_above_twins", "n_relayed")},
        "capacity": {key: row["capacity"][key] for key in CAPACITY},
        "sensitivity": sensitivity
        and {
            "above_twins_at": sensitivity["above_twins_at"],
            "curve": [{"amplitude": point["amplitude"]} for point in sensitivity["curve"]],
        },
        "floor": row.get("floor"),
    }


def main() -> None:
    """Read them and write what is kept."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("runs", nargs="+", metavar="NAME=RUN")
    found: dict[str, Any] = {}
    for name, _, folder in (given.partition("=") for given in parser.parse_args().runs):
        run = pk.load(Path(folder))
        found[name] = {
            "identity": run.record["identity"][:12],
            "q": run.record["science"]["settings"]["q"],
            "model": {key: run.summary["model"][key] for key in ("name", "n_layers")},
            "layers": [kept(row) for row in run.summary["layers"]],
        }
    (RESULTS / "answers.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
