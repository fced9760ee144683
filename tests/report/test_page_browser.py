"""The report of a big run in a headless Chromium: small, drawn at once, and alone on the machine."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from browser import Browser, found
from synthetic import examples, provenance, run

from probekit.report.page import render_page

pytestmark = [pytest.mark.slow, pytest.mark.skipif(found() is None, reason="needs Chromium or Chrome")]


def test_thirty_layers_of_two_thousand_pairs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    summary, layers, pairs = run(("none", "finds", "doubtful") * 10)
    big = {layer: table.sample(2_000, replace=True, random_state=0) for layer, table in pairs.items()}
    shown = [{**one, "layer": layer} for layer in big for one in examples()]
    page = tmp_path / "report.html"
    page.write_text(render_page(summary, layers, big, examples=shown, provenance=provenance()))
    assert page.stat().st_size <= 5_000_000
    drawn: list[float] = []
    with Browser() as browser:
        for _ in range(5):  # on a machine that others use the best counts
            browser.open(page.as_uri())
            browser.until("performance.getEntriesByType('paint').length && performance.timing.loadEventEnd")
            drawn.append(
                browser.run(
                    "Math.max(performance.getEntriesByType('paint').at(-1).startTime,"
                    " performance.getEntriesByType('navigation')[0].loadEventEnd)"
                )
            )
        assert browser.errors == []
        assert {url for url in browser.requests if url != "about:blank"} == {page.as_uri()}
    with capsys.disabled():
        sys.stdout.write(f"\n{page.stat().st_size / 1e6:.2f} MB, drawn {min(drawn):.0f} ms of {drawn}\n")
    assert min(drawn) <= 1_000
