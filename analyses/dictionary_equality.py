"""Every dictionary format against the library that writes it: largest difference between the two encoders.

    python analyses/dictionary_equality.py                     # downloads some gigabytes; minutes
    python analyses/dictionary_equality.py --pythons sae_lens=V/bin/python …

For each library an environment of its own is made in a temporary folder, one after the other, from the versions below. The
library's own code makes small dictionaries with random weights, saves them, reads them again and encodes fixed inputs
(`tests/model/dictionaries/reference_*.py`); probekit reads the same folders. A difference is the largest one over tokens and
latents, as a share of the largest activation (at least 1). `--pythons` takes environments that are there. It is not part
of the tests, since it downloads. Writes analyses/results/dictionary_equality.md.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import venv
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from measured import RESULTS, ROOT, table, write_page
from safetensors.torch import load_file

import probekit as pk
from probekit.model.dictionaries import read_dictionary

LIBRARIES: dict[str, tuple[str, ...]] = {
    "sae_lens": ("torch==2.13.0", "sae-lens==6.54.12", "transformer-lens==3.9.0"),
    "dictionary_learning": ("torch==2.13.0", "dictionary-learning==0.1.0"),
    "circuit_tracer": ("torch==2.13.0", "circuit-tracer==0.5.0"),
}
"""What pip is asked to install for each."""
SPOILT = "torchvision"
"""What dictionary-learning's own requirements bring and no dictionary needs: built for another torch it cannot be imported,
and `transformers` asks for it wherever it is installed."""
SHOWN = ("torch", "sae-lens", "transformer-lens", "dictionary-learning", "circuit-tracer", "safetensors")
WANTED = 1e-6
SCRIPTS = ROOT / "tests" / "model" / "dictionaries"
COLUMNS = ("library", "case", "latents active", "active where the library's are", "largest difference")


def environment(library: str, home: Path) -> Path:
    """The interpreter of a new environment that has a library."""
    venv.create(home, with_pip=True)
    python = home / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", *LIBRARIES[library]], check=True)
    subprocess.run([python, "-m", "pip", "uninstall", "--quiet", "--yes", SPOILT], check=True)
    return python


def versions(python: Path) -> str:
    """What it holds, as its own metadata says."""
    asked = (
        "from importlib.metadata import distributions\n"
        f"held = {{d.name.lower().replace('_', '-'): d.version for d in distributions()}}\n"
        f"print(', '.join(f'{{n}} {{held[n]}}' for n in {SHOWN} if n in held))"
    )
    done = subprocess.run([python, "-c", asked], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def compared(library: str, python: Path, root: Path) -> Iterator[tuple[str, float, bool, float]]:
    """For each case the share of activations above 0, whether the same are, and the largest difference."""
    script = SCRIPTS / f"reference_{library.replace('sae_lens', 'saelens')}.py"
    quiet = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    subprocess.run([python, "-W", "ignore", script, root], check=True, env=quiet)
    for folder in sorted(path.parent for path in root.glob("*/reference.safetensors")):
        case = load_file(folder / "reference.safetensors")
        encoders = sorted(folder.glob("W_enc_*.safetensors"))
        got, theirs = read_dictionary(encoders[-1] if encoders else folder).encode(case["x"]), case["acts"]
        difference = float((got - theirs).abs().max()) / max(1.0, float(theirs.abs().max()))
        yield folder.name, float((theirs != 0).float().mean()), torch.equal(got != 0, theirs != 0), difference


def page(pythons: dict[str, Path]) -> Iterator[str]:
    """The page's lines."""
    yield "# Dictionaries against the libraries that write them"
    yield ""
    yield (
        f"`python analyses/dictionary_equality.py{' --pythons …' if pythons else ''}`, probekit {pk.__version__}. "
        f"Random weights and inputs in float32. "
        f"*Largest difference*: over all tokens and latents, as a share of the largest activation (at least 1); wanted "
        f"≤ {WANTED:.0e}. Batch top-k and Matryoshka checkpoints "
        "are compared with what the library saves of them for inference."
    )
    worst: list[list[str]] = []
    rows: list[list[str]] = []
    for library in LIBRARIES:
        with TemporaryDirectory() as home:
            python = pythons.get(library) or environment(library, Path(home) / "environment")
            held, root = versions(python), Path(home) / "cases"
            root.mkdir()
            cases = list(compared(library, python, root))
        beyond = [name for name, _, same, difference in cases if not same or not difference <= WANTED]
        largest = max(difference for *_, difference in cases)
        worst.append([library, held, str(len(cases)), f"{largest:.1e}", ", ".join(beyond) or "none"])
        rows += [
            [library, name, f"{active:.1%}", "yes" if same else "no", f"{difference:.1e}"]
            for name, active, same, difference in cases
        ]
    yield ""
    yield from table(("library", "versions", "cases", "largest difference", "beyond what is wanted"), worst)
    yield ""
    yield from table(COLUMNS, rows)


def main() -> None:
    """Compare and write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--pythons", nargs="*", default=[], metavar="LIBRARY=PYTHON")
    parser.add_argument(
        "--out", default=str(RESULTS / "dictionary_equality.md"), help="page; - only prints it"
    )
    options = parser.parse_args()
    given = dict(word.split("=", 1) for word in options.pythons)
    if unknown := set(given) - set(LIBRARIES):
        sys.exit(f"--pythons: got {min(unknown)}, wanted some of {', '.join(LIBRARIES)}")
    write_page(page({library: Path(python).absolute() for library, python in given.items()}), options.out)


if __name__ == "__main__":
    main()
