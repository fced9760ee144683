"""Puts the table of the papers' claims, as `analyses/claims.py` wrote it, in place of its mark when the pages are built."""

from __future__ import annotations

from pathlib import Path
from typing import Any

MARK = "<!-- claims -->"
CLAIMS = Path(__file__).parents[2] / "analyses" / "results" / "claims.md"


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put the table in place of the mark."""
    if MARK not in markdown:
        return markdown
    lines = CLAIMS.read_text(encoding="utf-8").splitlines()
    return markdown.replace(MARK, "\n".join(line for line in lines if line.startswith("|")))
