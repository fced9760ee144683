"""The whole sweeps over write boundaries, tensor operations and crash states, and the table of what they counted.

    python analyses/reliability/fault_sweeps.py                 all of them, about half an hour of one core
    python analyses/reliability/fault_sweeps.py --only power    those that begin with this word; their lines are renewed

Each sweep is `tests/faults/sweep.py` in a process of its own. What it printed is kept beside the table, so that one sweep can
be run again without the others. Result: analyses/results/fault_sweeps.md.
"""

# ruff: noqa: E501 - the command that made a table stands on one line

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from probekit.analysis import run_fingerprint
from probekit.storage import store

ROOT = Path(__file__).parents[2]
RESULT = ROOT / "analyses" / "results" / "fault_sweeps.md"
COUNTS = RESULT.with_suffix(".json")

SWEEPS = {
    "kill 0 1": "SIGKILL before every call and within every write; a reader looks; resumed",
    "twice 500": "a pair of SIGKILLs at random boundaries, the second during the resume; resumed",
    "replace 0 1": "SIGKILL at every boundary while --force replaces a finished run; replaced again",
    "full 0 1": "from every boundary on no space (ENOSPC, EFBIG, EDQUOT) or EIO, then space again; resumed",
    "memory 0 5": "no memory at every fifth tensor operation; resumed",
    "power 0 4": "power lost after every call; every different state read and verified, every fourth resumed",
}
"""Words of the sweep, and what it does."""


def swept(words: str) -> dict[str, Any]:
    """What one sweep printed, with its seconds and the code it ran on."""
    begun = time.monotonic()
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "faults" / "sweep.py"), *words.split()], capture_output=True, text=True,
        check=False, env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "0"},
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"{words}: {done.stderr[-3_000:]}")
    return {
        **json.loads(done.stdout),
        "seconds": round(time.monotonic() - begun),
        "code": run_fingerprint.code(),
    }


def row(words: str, told: dict[str, Any]) -> str:
    """One line of the table."""
    kept = ("n_boundaries", "wrong", "loaded", "digest", "seconds", "code")
    counts = "; ".join(f"{what} {n:,}" for what, n in told.items() if what not in kept)
    return (
        f"| `{words}` | {SWEEPS[words]} | {told['n_boundaries']} | {counts} | {told['seconds']} | `{told['code'][:8]}` "
        f"| {len(told['wrong'])} |"
    )


def table(counts: dict[str, dict[str, Any]]) -> str:
    """The result so far."""
    wrong = [f"- `{words}`: {what}" for words, told in counts.items() for what in told["wrong"][:10]]
    missing = [f"`{words}`" for words in SWEEPS if words not in counts]
    return "\n".join([
        "# Sweeps over write boundaries", "",
        "`python analyses/reliability/fault_sweeps.py`: each line is one `python tests/faults/sweep.py …` and the counts it printed. The",
        "job is one layer of 64 neurons, 12 concepts, 2,400 tokens, 4 twins, two tiles a half, with the running sums kept after every",
        'tile. "Wrong" counts runs that differ from the uninterrupted one in any byte of any file, are not resumed, or showed a',
        "reader anything but the old run, the new one or an `IncompleteError`. A boundary is a call that changes the disk, and a",
        "write is two. `code` is the digest of the source a result passes through.", "",
        "| command | what was done | boundaries | counted | s | code | wrong |", "|---|---|---|---|---|---|---|",
        *(row(words, counts[words]) for words in SWEEPS if words in counts), "",
        *(["Not run yet: " + ", ".join(missing) + ".", ""] if missing else []),
        *(["What was wrong:", "", *wrong, ""] if wrong else []),
        "The power model: names become durable when their folder is synced, bytes when their file is; of what was not synced any",
        "subset may be there, bytes may be cut short or zero. It is a model, and no device was ever unplugged.", "",
    ])  # fmt: skip


def main() -> None:
    """Run what was asked for; the table is renewed after each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", help="first words of the sweeps to run")
    only = parser.parse_args().only
    counts: dict[str, dict[str, Any]] = store.read_json(COUNTS) if COUNTS.exists() else {}
    for words in SWEEPS:
        if only is None or words.split()[0] in only:
            told = swept(words)
            # sweeps may run side by side: what another has written meanwhile stays
            counts = {**(store.read_json(COUNTS) if COUNTS.exists() else {}), words: told}
            store.write_json(COUNTS, counts)
            store.write_text(RESULT, table(counts))
            print(row(words, told), flush=True)
    sys.exit(any(told["wrong"] for told in counts.values()))


if __name__ == "__main__":
    main()
