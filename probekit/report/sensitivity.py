"""What the run could have found, in tables and words: recall, pairs beyond the twins, the bound under other assumptions."""

from __future__ import annotations

from collections.abc import Sequence

from probekit.evidence.summary import LayerRow
from probekit.report import words
from probekit.report.recall import RUNGS
from probekit.report.tables import Table


def table(rows: Sequence[LayerRow]) -> Table:
    """Recall by layer and amplitude."""
    return Table(
        "Share of the added ANDs that were found, by layer and amplitude.",
        ("Layer", "Amplitude", "Added", "Above twins", "Computed"),
        tuple(
            (
                str(row["layer"]),
                f"{step['amplitude']:g}",
                words.count(found["n_spiked"]),
                *(
                    f"{words.percent(step[rung]['recall'], 0)} "
                    f"({words.percent(step[rung]['low'], 0)}–{words.percent(step[rung]['high'], 0)})"
                    for rung, _ in RUNGS
                ),
            )
            for row in rows
            if (found := row.get("sensitivity"))
            for step in found["curve"]
        ),
    )


def nonnull_notes(rows: Sequence[LayerRow]) -> list[str]:
    """The lower bound on pairs beyond the twins, layer by layer, or why it is not claimed."""
    notes: list[str] = []
    silent: dict[str, list[str]] = {}
    for row in rows:
        found = row.get("nonnull")
        if not found:
            continue
        if found["n_low"] is None:
            silent.setdefault(found["why_not"], []).append(str(row["layer"]))
        else:
            notes.append(
                f"Layer {row['layer']}: at least {words.count(found['n_low'])} pairs are beyond the twins in a way specific "
                "to them (95 %, constant calibrated on the twins; the same bound on 1 − p is 0)."
            )
    for why, layers in silent.items():
        where = f"layer {layers[0]}" if len(layers) == 1 else f"layers {words.listed(layers)}"
        notes.append(f"No lower bound on the number of pairs beyond the twins is claimed in {where}: {why}.")
    return notes


def assumptions_table(rows: Sequence[LayerRow]) -> Table | None:
    """The verdict of the exact bound under other bits a weight and error tolerances."""
    held = [row for row in rows if row["capacity"].get("by_assumption")]
    if not held:
        return None
    cases = [(entry["bits"], entry["delta"]) for entry in held[0]["capacity"]["by_assumption"]]
    return Table(
        "The exact bound under other assumptions: most pairs that could be selected freely with b bits a weight when "
        "a share δ may be wrong. “Vacuous” excludes nothing; “exceeded” would speak of a compressible set, false finds "
        "or too small a b.",
        ("Layer", *(f"b = {bits:g}, δ = {delta:g}" for bits, delta in cases)),
        tuple(
            (
                str(row["layer"]),
                *(
                    entry["verdict"]
                    if entry["verdict"] == "vacuous"
                    else f"{words.count(entry['max_selected'])}, {entry['verdict']}"
                    for entry in row["capacity"]["by_assumption"]
                ),
            )
            for row in held
        ),
    )
