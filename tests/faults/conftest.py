"""A small finished run, and one that was stopped on its way, for tests that damage them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from probekit.analysis import passes
from probekit.analysis.api import analyze_arrays
from probekit.results import publish
from probekit.storage import checkpoint


@pytest.fixture(scope="session")
def given() -> dict[str, Any]:
    """A random ReLU layer, as arguments of analyze_arrays."""
    rng = np.random.default_rng(11)
    labels = rng.random((2_400, 6)) < 0.35
    inputs = labels + 0.3 * rng.standard_normal((2_400, 6))
    w_in, b_in = rng.standard_normal((20, 6)), 0.1 * rng.standard_normal(20)
    return {
        "neurons": np.maximum(inputs @ w_in.T + b_in, 0), "labels": labels, "docs": np.arange(2_400) // 20,
        "inputs": inputs, "weights": (w_in, b_in), "twins": 4, "max_pairs": 6, "min_support": 20, "progress": False,
    }  # fmt: skip


@pytest.fixture(scope="session")
def finished(given: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run, report and all."""
    out = tmp_path_factory.mktemp("finished") / "run"
    analyze_arrays(**given, out=out)
    return out


@pytest.fixture(scope="session")
def stopped(given: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run stopped in its last pass: every kind of stage is on disk."""

    def stop(step: str, done: int, total: int) -> None:
        if step == "confirm":
            raise KeyboardInterrupt

    out = tmp_path_factory.mktemp("stopped") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(passes, "TILE", 512)
        patch.setattr(checkpoint, "SHARE", math.inf)
        with pytest.raises(KeyboardInterrupt):
            analyze_arrays(**{**given, "progress": stop}, out=out)
    return out


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """No report is drawn: it is most of a tiny run."""
    monkeypatch.setattr(publish, "figures", lambda *args: {"ladder": "<svg/>"})
    monkeypatch.setattr(publish, "render_page", lambda *args, **options: "<html/>")
