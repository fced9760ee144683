"""Pictures of a report for the documentation, taken by a real browser.

    python analyses/screenshots.py demo-report/report.html     # docs/images/report-*.png
    python analyses/screenshots.py demo-report/report.html --out /tmp/look --widths 1400 400

Needs Chromium (or the program that CHROMIUM names). The page is opened from the disk; nothing is loaded from anywhere.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

IMAGES = Path(__file__).parents[1] / "docs" / "images"
HEIGHTS = {1200: 1500}
"""Pixels of the page that are shown, by width; 1,400 elsewhere."""


def browser() -> str:
    """The browser's path."""
    found = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if not found:
        sys.exit("no Chromium found; install one, or name it in CHROMIUM")
    return found


def take(page: Path, width: int, out: Path, *, dark: bool) -> Path:
    """One picture of the page's beginning."""
    name = f"{page.stem}-{width}{'-dark' if dark else ''}.png"
    options = ["--force-dark-mode"] if dark else []
    subprocess.run(
        [browser(), "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", *options,
         f"--window-size={width},{HEIGHTS.get(width, 1_400)}", f"--screenshot={out / name}", page.resolve().as_uri()],
        check=True, capture_output=True,
    )  # fmt: skip
    return out / name


def main() -> None:
    """Take them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("page", type=Path)
    parser.add_argument("--widths", type=int, nargs="+", default=[1200])
    parser.add_argument("--dark", action="store_true", help="also in dark")
    parser.add_argument("--out", type=Path, default=IMAGES)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for width in options.widths:
        for dark in (False, True)[: 1 + options.dark]:
            print(take(options.page, width, options.out, dark=dark))


if __name__ == "__main__":
    main()
