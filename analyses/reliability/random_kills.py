"""Kill real runs of the bundled model at random times, resume them, compare with a run that was left alone.

    python analyses/reliability/random_kills.py --kills 200
    python analyses/reliability/random_kills.py --kills 25 --seed 3    a part of them: the result adds up all seeds

Each trial starts `probekit analyze nano` in a process of its own (forked from one that has only imported the libraries),
sends it SIGKILL after a random time, and goes on with `probekit resume`, killed again and again, until the last one is left
alone. The run directory must then be the clean one, byte for byte. Result: analyses/results/random_kills.md.
"""

# ruff: noqa: E501 - the command that made a table stands on one line

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("NUMBA_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("NUMBA_THREADING_LAYER", "workqueue")

import argparse
import hashlib
import math
import signal
import sys
import tempfile
import time
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from probekit import cli
from probekit.analysis import run_fingerprint
from probekit.storage import checkpoint, store

RESULT = Path(__file__).parents[1] / "results" / "random_kills.md"
COUNTS = RESULT.with_suffix(".json")
OPTIONS = ["--layers", "1", "--twins", "4", "--max-pairs", "40", "--max-tokens", "14000", "--out", "run"]
LIBRARIES = ("transformer_lens", "transformers", "tokenizers", "datasets", "altair", "probekit.analysis.api")


def start(words: list[str], place: Path, log: Path) -> int:
    """Run a command line in a fork, in a folder; returns the process."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        os.chdir(place)
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        checkpoint.SHARE = math.inf  # running sums after every tile: kills fall into all kinds of writes
        sys.argv = ["probekit", *words]
        cli.main()
        code = 0
    except SystemExit as end:
        code = int(end.code or 0)
    finally:
        os._exit(code)


def wait(process: int, seconds: float = math.inf) -> int | None:
    """How it ended, or None after that time."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        done, status = os.waitpid(process, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    return None


def digests(folder: Path) -> dict[str, str]:
    """blake2b of every file."""
    return {
        str(p.relative_to(folder)): hashlib.blake2b(p.read_bytes()).hexdigest()
        for p in sorted(folder.rglob("*")) if p.is_file()
    }  # fmt: skip


def main() -> None:
    """Kill until the number asked for is reached."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--kills-a-trial", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    for library in LIBRARIES:
        import_module(library)
    run_fingerprint.code()  # of the code that is loaded: the files may be edited meanwhile
    rng = np.random.default_rng(options.seed)
    n_kills = n_trials = n_lost = n_before = n_with_parts = 0
    whole = 0.0
    with tempfile.TemporaryDirectory() as name:
        folder, log = Path(name), Path(name) / "log.txt"
        for warm in ("warm", "clean"):  # the first one compiles and fills the cache of texts
            (folder / warm).mkdir()
            begun = time.monotonic()
            if wait(start(["analyze", "nano", *OPTIONS], folder / warm, log)):
                sys.exit(log.read_text())
            whole = time.monotonic() - begun
        clean = digests(folder / "clean" / "run")
        while n_kills < options.kills:
            place = folder / f"trial-{n_trials}"
            place.mkdir()
            n_trials += 1
            out = place / "run"

            def line(out: Path) -> list[str]:
                return ["resume", "run"] if (out / "run.json").exists() else ["analyze", "nano", *OPTIONS]

            for _ in range(min(options.kills_a_trial, options.kills - n_kills)):
                process = start(line(out), place, log)
                if wait(process, float(rng.uniform(0.05, 0.8)) * whole) is not None:
                    break  # finished before its time was up
                os.kill(process, signal.SIGKILL)
                wait(process)
                n_kills += 1
                n_before += not (out / "run.json").exists()
                n_with_parts += any(out.glob("stages/*/*.json"))
            code = wait(start(line(out), place, log))
            found = digests(out)
            wrong = sorted(n for n in {*found, *clean} if found.get(n) != clean.get(n))
            n_lost += bool(wrong) or code != 0
            print(f"{n_kills} kills in {n_trials} trials, {n_lost} lost", code, wrong[:5], flush=True)
            counted = {
                "SIGKILLs": n_kills,
                "of these before run.json was there": n_before,
                "of these with finished parts on disk": n_with_parts,
                "trials, each resumed until it finished": n_trials,
                "runs lost, or different in any byte of any file from the run left alone": n_lost,
            }
            record(
                f"--kills {options.kills} --kills-a-trial {options.kills_a_trial} --seed {options.seed}",
                counted,
                whole,
            )
    sys.exit(bool(n_lost))


def record(words: str, counted: dict[str, int], whole: float) -> None:
    """Put the counts of this call beside those of other seeds, and write the sum."""
    calls: dict[str, dict[str, Any]] = store.read_json(COUNTS) if COUNTS.exists() else {}
    calls = {key: call for key, call in calls.items() if call["code"] == run_fingerprint.code()}
    calls[words] = {"counted": counted, "whole": round(whole), "code": run_fingerprint.code()}
    store.write_json(COUNTS, calls)
    sums = {what: sum(call["counted"][what] for call in calls.values()) for what in counted}
    rows = "\n".join(f"| {what} | {n} |" for what, n in sums.items())
    commands = "\n".join(
        f"    python analyses/reliability/random_kills.py {words}" for words in sorted(calls)
    )
    shortest, longest = (f([call["whole"] for call in calls.values()]) for f in (min, max))
    text = f"""# Real SIGKILLs at random times

{commands}

Job: `probekit analyze nano {" ".join(OPTIONS)}`, one thread, running sums kept after every tile; {shortest} to {longest} s when left
alone, on a two-core machine shared with other work. All on one state of the code (digest `{run_fingerprint.code()[:8]}`).

| | |
|---|---|
{rows}
"""
    store.write_text(RESULT, text)


if __name__ == "__main__":
    main()
