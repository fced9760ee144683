"""R6: hostile but well-formed files. Whoever reads them gets a number out or an error of ours, soon and in little memory.

python tests/faults/fuzz.py RUN 5000 0     that many mutants of the files of a finished run, by seed; prints counts as JSON
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

from mutants import closed, mutated, rearranged, sealed, spliced, text_of, unsealed

from probekit.analysis.settings import Settings, read_config
from probekit.errors import InputError, ProbekitError, StoreError
from probekit.results.run import load
from probekit.storage.digest import Digest
from probekit.storage.shards import Stage
from probekit.storage.verify import verify
from probekit.text.concepts.files import parse_toml, read_spans

SECONDS, MEBIBYTES = 1.0, 100
"""What reading one mutant may take; the memory is the growth of the whole process."""
SHARED_MEMORY = Path("/dev/shm")
CONFIG = b"""[science]
max_tokens = 1000
q = 0.05
seed = 3
twin_ks = [1, 16]
controls = ["shuffle"]
spikes = [0.0, 1.0]
[execution]
device = "cpu"
"""
CONCEPTS = b"""defaults = true
context = ["in backticks"]
phrases = ["of the"]
[ngrams]
first = 3
[[tokens]]
text = [" the", " of"]
lags = [0, 1]
[[class]]
name = "red"
pattern = "re+d"
lags = [2]
"""
SPANS = b"""{"name": "a", "document": 0, "start": 3, "end": 9}
{"name": "b", "document": 1, "start": 0, "end": 2}
"""
RECORDS = ("run.json", "COMMIT.json", "stages/result/part-00000.json", "stages/result/COMMIT.json")
PART = "stages/result/part-00000.safetensors"
TABLE = "pairs/layer-00.parquet"


class Fuzz:
    """A run whose files are changed one at a time, and what its readers said."""

    def __init__(self, run: Path, folder: Path, seed: int) -> None:
        self.run, self.rng = folder / "run", np.random.default_rng(seed)
        shutil.copytree(run, self.run)
        self.whole = {path: path.read_bytes() for path in self.run.rglob("*") if path.is_file()}
        self.file = folder / "file"
        self.changed = set[str]()
        self.counts: dict[str, int] = {}
        self.wrong: list[str] = []
        self.slowest = 0.0
        self.targets: dict[str, Callable[[], Any]] = {
            **{f"record {name}": lambda name=name: self.record(name) for name in RECORDS},
            **{f"text {name}": lambda name=name: self.text(name) for name in RECORDS},
            "summary": lambda: self.json_result("summary.json"),
            "examples": lambda: self.json_result("examples.json"),
            "arrays": self.arrays,
            "table": self.table,
            "config": lambda: self.alone(CONFIG, settings),
            "concepts": lambda: self.alone(CONCEPTS, parse_toml),
            "spans": lambda: self.alone(SPANS, read_spans),
        }

    # ------------------------------------------------------------------------------ what is changed

    def put(self, name: str, data: bytes) -> None:
        (self.run / name).write_bytes(data)
        self.changed.add(name)

    def old(self, name: str) -> bytes:
        return self.whole[self.run / name]

    def record(self, name: str) -> None:
        """Another record with its right seal."""
        self.put(name, sealed(mutated(unsealed(self.old(name)), self.rng)))
        self.read()

    def text(self, name: str) -> None:
        """Another text, whose last line digests what stands above it."""
        body, _, _ = self.old(name).rpartition(b",\n")
        changed = spliced(body, self.rng)
        self.put(name, closed(changed))
        self.read()

    def json_result(self, name: str) -> None:
        """Another result with its right digest."""
        value = json.loads(self.old(name))
        data = (
            text_of(mutated(value, self.rng))
            if self.rng.random() < 0.8
            else spliced(self.old(name), self.rng)
        )
        self.put(name, data)
        self.list_again(name, data)
        self.read()

    def arrays(self) -> None:
        """Another file of arrays, whose digest its sidecar names."""
        data = rearranged(self.old(PART), self.rng)
        self.put(PART, data)
        sidecar = unsealed(self.old(RECORDS[2]))
        self.put(RECORDS[2], sealed({**sidecar, "file": Digest.of(data).as_dict()}))
        Stage(self.run / "stages" / "result", "").get(0)

    def table(self) -> None:
        """Another table with its right digest."""
        data = spliced(self.old(TABLE), self.rng)
        self.put(TABLE, data)
        self.list_again(TABLE, data)
        load(self.run).pairs()

    def list_again(self, name: str, data: bytes) -> None:
        record = unsealed(self.old("COMMIT.json"))
        record["files"][name] = Digest.of(data).as_dict()
        self.put("COMMIT.json", sealed(record))

    def read(self) -> None:
        """Everything a reader of results asks for, and the check of every byte."""
        run = load(self.run)
        for look in (lambda: run.layers, run.examples, run.pairs, lambda: repr(run)):
            look()
        verify(self.run)

    def alone(self, text: bytes, read: Callable[[Path], Any]) -> None:
        """A file of its own."""
        self.file.write_bytes(spliced(text, self.rng))
        read(self.file)

    # ------------------------------------------------------------------------------ what became of it

    def case(self, number: int) -> None:
        name = list(self.targets)[number % len(self.targets)]
        begun = time.perf_counter()
        try:
            self.targets[name]()
            self.count(f"{name}: read")
        except ProbekitError as error:
            self.count(f"{name}: {type(error).__name__}")
            if not isinstance(
                error, StoreError | InputError
            ):  # an "unforeseen" one is none that was foreseen
                self.odd(number, name, error)
        except Exception as error:  # noqa: BLE001 - what must not come out
            self.odd(number, name, error)
        took = time.perf_counter() - begun
        self.slowest = max(self.slowest, took)
        if took > SECONDS:
            self.wrong.append(f"case {number}, {name}: took {took:.1f} s")
        for changed in self.changed:
            (self.run / changed).write_bytes(self.old(changed))
        self.changed.clear()

    def odd(self, number: int, name: str, error: BaseException) -> None:
        self.count(f"{name}: foreign")
        self.wrong.append(f"case {number}, {name}: {type(error).__name__}: {str(error)[:200]}")

    def count(self, what: str) -> None:
        self.counts[what] = self.counts.get(what, 0) + 1


def settings(path: Path) -> Settings:
    """What a run makes of its configuration file."""
    held = {key: value for key, value in read_config(path).items() if key not in ("device", "engine")}
    return Settings(
        **{key: tuple(value) if isinstance(value, list) else value for key, value in held.items()}
    )


def main() -> None:
    run, n_cases, seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    place = SHARED_MEMORY if os.access(SHARED_MEMORY, os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=place) as folder:
        fuzz = Fuzz(run, Path(folder), seed)
        fuzz.read()  # the control: untouched it is read, and everything is imported
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for number in range(n_cases):
            fuzz.case(number)
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1_024
    told = {
        "cases": n_cases, "counts": fuzz.counts, "wrong": fuzz.wrong, "slowest": round(fuzz.slowest, 3),
        "mebibytes": round(grown),
    }  # fmt: skip
    sys.stdout.write(json.dumps(told) + "\n")


if __name__ == "__main__":
    main()
