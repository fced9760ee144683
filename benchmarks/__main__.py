"""Run the benchmarks and write what they found.

python -m benchmarks                            # all tables, about half an hour of one core
python -m benchmarks selection gram --quick     # some of them, with fewer rounds; nothing is written
python -m benchmarks gpu                        # on a machine with an accelerator
python -m benchmarks --render                   # README.md again from benchmarks/results/*.json
"""

from __future__ import annotations

import os

# one thread, said before the libraries ask: what is compared are algorithms, not pools
for variable in ("OMP", "MKL", "OPENBLAS", "NUMBA"):
    os.environ.setdefault(f"{variable}_NUM_THREADS", "1")

import argparse  # noqa: E402
import importlib  # noqa: E402
import sys  # noqa: E402

from benchmarks import page  # noqa: E402
from benchmarks.table import RESULTS, Table  # noqa: E402
from probekit.storage.store import write_json  # noqa: E402

TABLES = {
    "selection": ("selection", "run"), "end_to_end": ("end_to_end", "run"), "probes": ("probes", "run"),
    "pair_sums": ("sums", "pair_sums"), "gram": ("sums", "gram"), "folds": ("exact", "folds"),
    "precision": ("exact", "precision"), "harvest": ("forward", "run"), "memory": ("memory", "run"),
    "scaling": ("scaling", "run"), "twins": ("twins", "run"),
    "rates": ("rates", "run"), "gpu": ("gpu", "run"),
}  # fmt: skip


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("tables", nargs="*", metavar="TABLE", help=f"any of {', '.join(TABLES)}; none: all")
    parser.add_argument("--quick", action="store_true", help="fewer rounds; prints, writes nothing")
    parser.add_argument("--render", action="store_true", help="only write README.md from the kept results")
    options = parser.parse_args()
    unknown = sorted(set(options.tables) - set(TABLES))
    if unknown:
        parser.error(f"no table {', '.join(unknown)}; there are {', '.join(TABLES)}")
    wanted = options.tables or [name for name in TABLES if name != "gpu"]
    for name in () if options.render else wanted:
        module, function = TABLES[name]
        table: Table = getattr(importlib.import_module(f"benchmarks.{module}"), function)(quick=options.quick)
        record = table.record(quick=options.quick)
        print(page.section(record), flush=True)
        if not options.quick:
            write_json(RESULTS / f"{name}.json", record)
    if not options.quick:
        page.write()


if __name__ == "__main__":
    sys.exit(main())
