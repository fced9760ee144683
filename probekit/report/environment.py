"""The templates of the report's pages."""

from __future__ import annotations

from typing import Any

from probekit.report import glossary


def environment() -> Any:
    """The templates of this room; every string is escaped, a missing name is an error.

    Filters: `tip` marks a heading with its meaning, `tipped` the known words of a sentence.
    """
    import jinja2

    made = jinja2.Environment(
        loader=jinja2.PackageLoader("probekit.report", ""),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["tip"] = glossary.tip
    made.filters["tipped"] = glossary.tipped
    return made
