"""Execute notebooks and keep their outputs in the file.

    python analyses/execute.py                                    # all of them, some minutes each
    python analyses/execute.py analyses/03_nano_layer_by_layer.ipynb

Warnings and progress bars (stderr) are not kept: they hold places of the machine and nothing to read.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient

HERE = Path(__file__).parent


def execute(path: Path) -> None:
    """Run one notebook from the root of the clone and write it back."""
    book = nbformat.read(path, 4)
    where = {"metadata": {"path": str(HERE.parent)}}
    NotebookClient(book, timeout=3_600, kernel_name="python3", resources=where).execute()
    for cell in book.cells:
        cell.metadata.pop("execution", None)  # times
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
    nbformat.write(book, path)


def main() -> None:
    """Execute the notebooks named, or all."""
    os.environ.setdefault("TQDM_DISABLE", "1")
    paths = [Path(name) for name in sys.argv[1:]] or sorted(HERE.glob("[0-9][0-9]_*.ipynb"))
    for path in paths:
        start = time.monotonic()
        execute(path)
        print(f"{path.name}: {time.monotonic() - start:.0f} s", flush=True)


if __name__ == "__main__":
    main()
