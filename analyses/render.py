"""Render a notebook to HTML and PDF beside it.

    python analyses/render.py analyses/06_research_report.ipynb                  # as it is
    python analyses/render.py analyses/06_research_report.ipynb --execute        # run it first
    PROBEKIT_RUN=runs/gpt2 python analyses/render.py analyses/06_research_report.ipynb --execute

The HTML is one file without code cells, made by nbconvert (in the docs extra). The PDF is that
page printed by an installed Chromium or Chrome; without one only the HTML is written, and that is said.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
from pathlib import Path

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome", "google-chrome-stable")


def to_html(notebook: Path, *, execute: bool) -> Path:
    """The notebook's text and outputs, without its code."""
    import nbformat
    from nbconvert import HTMLExporter

    book = nbformat.read(notebook, 4)
    if execute:
        from nbclient import NotebookClient

        NotebookClient(book, timeout=3_600, kernel_name="python3").execute()
    exporter = HTMLExporter(
        template_name="basic", exclude_input=True, exclude_input_prompt=True, exclude_output_prompt=True
    )
    body, _ = exporter.from_notebook_node(book)
    style = (Path(__file__).parents[1] / "probekit" / "report" / "report.css").read_text(encoding="utf-8")
    extra = (
        "main{width:min(60rem,100% - 2.5rem);margin:3rem auto} svg{max-width:100%;height:auto} "
        ".anchor-link{display:none} table.dataframe,.dataframe th,.dataframe td{border:0;border-bottom:1px solid "
        "var(--line)} .dataframe td,.dataframe th{text-align:right} .jp-Cell,.cell{margin-block:1rem} @page{size:A4}"
    )
    page = (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{notebook.stem}</title>'
        f"<style>{style}{extra}</style></head><body><main>{body}</main></body></html>\n"
    )
    target = notebook.with_suffix(".html")
    target.write_text(page, encoding="utf-8")
    return target


def to_pdf(page: Path) -> Path | None:
    """The page printed, or None where no browser is installed."""
    browser = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if browser is None:
        return None
    target = page.with_suffix(".pdf")
    options = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--no-pdf-header-footer",
        f"--print-to-pdf={target.resolve()}",
    ]
    subprocess.run([browser, *options, page.resolve().as_uri()], check=True, capture_output=True, timeout=300)
    return target


def main() -> None:
    """Render one notebook."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("notebook", type=Path)
    parser.add_argument("--execute", action="store_true", help="run the notebook first")
    options = parser.parse_args()
    page = to_html(options.notebook, execute=options.execute)
    print(page)
    print(to_pdf(page) or "no Chromium or Chrome found: print the HTML page from your browser for a PDF")


if __name__ == "__main__":
    main()
