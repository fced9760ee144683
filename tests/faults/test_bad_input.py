"""R5: the properties of cases_bad_input.py, in processes without the suite's own type checks."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
N_PROPERTIES = 60


def passed(part: int, n_parts: int, n_examples: int) -> int:
    """Run some of the properties; the number of tests that passed."""
    plain = ["--import-mode=importlib", "-q", "-o", "addopts=", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *plain, str(HERE / "cases_bad_input.py")], capture_output=True, text=True,
        check=False, cwd=HERE.parents[1],
        env={**os.environ, "EXAMPLES": str(n_examples), "PART": str(part), "N_PARTS": str(n_parts)},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-6_000:]
    counted = re.search(r"(\d+) passed", done.stdout)
    assert counted
    return int(counted.group(1))


@pytest.mark.sweep
@pytest.mark.parametrize("part", [0, 1])
def test_a_hundred_examples_of_each_property(part: int):
    assert passed(part, 2, 100) >= N_PROPERTIES // 2


@pytest.mark.slow
def test_three_hundred_examples_of_each_property():
    assert passed(0, 1, 300) >= N_PROPERTIES
