"""What a run may take, and that no number depends on it."""

from __future__ import annotations

from pathlib import Path

import pytest

from probekit.analysis import memory, run_fingerprint
from probekit.analysis.memory import Memory, as_bytes, free_memory
from probekit.analysis.settings import Settings
from probekit.errors import InputError


def test_free_memory_is_what_the_container_leaves(tmp_path: Path) -> None:
    assert free_memory(tmp_path) is None
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc" / "meminfo").write_text("MemTotal: 9000 kB\nMemAvailable: 5000 kB\n")
    assert free_memory(tmp_path) == 5_000 * 1_024
    group = tmp_path / "sys" / "fs" / "cgroup"
    group.mkdir(parents=True)
    (group / "memory.current").write_text("1000\n")
    (group / "memory.max").write_text("max\n")
    assert free_memory(tmp_path) == 5_000 * 1_024
    (group / "memory.max").write_text("4000\n")
    assert free_memory(tmp_path) == 3_000


def test_words_and_numbers_are_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert as_bytes("8GB") == as_bytes(8e9) == as_bytes("8000 mb") == 8e9
    assert as_bytes("1GiB") == 2**30
    assert as_bytes("1e9") == 1e9
    monkeypatch.setattr(memory, "free_memory", lambda: 10_000)
    assert as_bytes("auto") == 5_000
    monkeypatch.setattr(memory, "free_memory", lambda: None)
    assert as_bytes("auto") == memory.UNKNOWN_FREE


@pytest.mark.parametrize(
    "wrong", ["", "much", "8 elephants", "-3GB", 0, float("nan"), float("inf"), True, None, "1.2.3GB"]
)
def test_anything_else_is_refused(wrong: object) -> None:
    with pytest.raises(
        InputError, match=r"memory: got .*, wanted 'auto', a number of bytes, or a size such as '8GB'"
    ):
        as_bytes(wrong)


@pytest.mark.parametrize("budget", ["auto", "8GB", 10**9, 1.5e9])
def test_a_run_that_is_resumed_has_the_same_budget(budget: Memory) -> None:
    told = run_fingerprint.in_words(
        "nano", None, None, Settings(), layers=None, pairs=None, device="cpu", engine="local", memory=budget
    )
    assert told is not None
    assert told["memory"] == budget
