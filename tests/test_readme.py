"""What the README tells a reader to type is typed here."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


@pytest.mark.slow
def test_python_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    held: dict[str, object] = {}
    for block in blocks("python"):
        exec(compile(block, "README.md", "exec"), held)
    assert (tmp_path / "nano.html").stat().st_size > 10_000
    assert len(held["concepts"]) == 3  # type: ignore[arg-type]


def test_make_targets_and_commands_exist():
    makefile = (Path(__file__).parents[1] / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"`?make ([a-z-]+)", README):
        assert f"\n{target}:" in makefile
    from probekit.cli import app

    known = {
        command.name or command.callback.__name__ for command in app.registered_commands if command.callback
    }
    known |= {group.name for group in app.registered_groups}
    commands = re.findall(r"^probekit ([a-z]+)", README, flags=re.MULTILINE)
    assert len(commands) >= 3
    assert set(commands) <= known


def test_no_promise_is_left_open():
    assert "RESULTS" not in README
