"""A directory that holds another run says what differs, what to type, and what that costs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from probekit.errors import StaleError
from probekit.storage import manifest, store

SCIENCE: dict[str, Any] = {
    "model": "nano@1f", "layers": [1], "settings": {"twins": 4, "seed": 0}, "code": "aa",
}  # fmt: skip


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"layers": [2]}, r"it differs in layers: \[1\] there, \[2\] asked for\)"),
        ({"layers": None}, r"it differs in layers: \[1\] there, all asked for\)"),
        ({"model": "nano@2e"}, r"it differs in model: nano, with other contents\)"),
        ({"model": "gpt2@2e"}, r"it differs in model: nano there, gpt2 asked for\)"),
        ({"settings": {"twins": 20, "seed": 0}}, r"it differs in settings: twins: 4 there, 20 asked for\)"),
        ({"code": "bb"}, r"it differs in code: probekit itself was changed since\)"),
        ({}, r"it differs in its record\)"),
    ],
)
def test_another_run_is_named_by_what_differs(tmp_path: Path, asked: dict[str, Any], said: str) -> None:
    record = {
        "schema": manifest.RECORD_SCHEMA,
        "format": manifest.FORMAT,
        "identity": "1",
        "science": SCIENCE,
    }
    store.write_sealed(tmp_path / manifest.RECORD, record)
    next_step = (
        r"\. Keep both by giving this one another out \(--out\); force=True \(--force\).*report, is deleted"
    )
    with pytest.raises(StaleError, match=f"holds another run \\({said}{next_step}"):
        manifest.require_same(tmp_path, {**record, "identity": "2", "science": {**SCIENCE, **asked}})
