"""The defects that `analyses/reliability/sabotage.py` plants still fit the code: each names one line that is there once."""

from __future__ import annotations

import runpy
from pathlib import Path

import probekit as pk

ROOT = Path(pk.__file__).parents[1]
LIST = ROOT / "analyses" / "reliability" / "defects.py"


def strays(defects: list[list[str]], root: Path) -> list[str]:
    """What cannot be planted: its line is not there exactly once, or its tests are gone."""
    found: list[str] = []
    for what, file, right, _, tests in defects:
        path = root / "probekit" / file
        if not path.is_file() or path.read_text(encoding="utf-8").count(right) != 1:
            found.append(f"{what}: {file}")
        found += [f"{what}: {name}" for name in tests.split(" -k")[0].split() if not (root / name).exists()]
    return found


def listed() -> list[list[str]]:
    """The fields of each `Defect`; the list is plain data and no part of the package."""
    defects = runpy.run_path(str(LIST))["DEFECTS"]
    return [[d.what, d.file, d.right, d.wrong, d.tests] for d in defects]


def test_every_defect_can_be_planted() -> None:
    defects = listed()
    assert len(defects) > 50
    assert strays(defects, ROOT) == []


def test_the_check_can_fail(tmp_path: Path) -> None:
    (tmp_path / "probekit").mkdir()
    (tmp_path / "probekit" / "a.py").write_text("x = 1\nx = 1\n")
    twice, gone = ["w", "a.py", "x = 1", "", "probekit"], ["w", "b.py", "x", "", "tests/none.py"]
    assert strays([twice, gone], tmp_path) == ["w: a.py", "w: b.py", "w: tests/none.py"]
