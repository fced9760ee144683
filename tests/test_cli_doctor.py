"""`probekit doctor` with imports that are really broken: each is caught, explained and counted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import probekit
from probekit.cli.doctor import CORE, EXTRAS, FOR, explained

ROOT = Path(probekit.__file__).parents[1]
FEW = """
import sys
from probekit import cli
doctor = sys.modules["probekit.cli.doctor"]  # the package's own name of this kind is the command
doctor.CORE = {"jinja2": "jinja2", "xxhash": "xxhash", "markupsafe": "markupsafe", "tqdm": "tqdm"}
doctor.EXTRAS = {"lexicon": {"wordfreq": "wordfreq"}}
doctor.OURS = "probekit.errors"
cli.main()
"""
"""The command on a few packages: importing all of them takes many seconds."""


def doctor(folder: Path, *words: str, script: str = FEW) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, with a folder before all others on the path."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)]),
        "HF_HUB_OFFLINE": "1",
    }
    return subprocess.run(
        [sys.executable, "-c", script, "doctor", *words],
        capture_output=True, text=True, check=False, env=environment, cwd=folder,
    )  # fmt: skip


def test_the_packages_are_those_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = {Requirement(one).name for one in project["dependencies"]}
    assert set(CORE) == names
    for extra, held in EXTRAS.items():
        assert set(held) == {Requirement(one).name for one in project["optional-dependencies"][extra]}
    # the other extras are for those who work on probekit
    assert set(project["optional-dependencies"]) - set(EXTRAS) == {"dev", "docs"}
    assert set(FOR) == set(EXTRAS)


def test_broken_imports_are_explained(tmp_path: Path) -> None:
    (tmp_path / "xxhash.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGILL)\n")
    (tmp_path / "jinja2.py").write_text(
        "print('noise on the output')\nraise ImportError('libfoo.so: undefined symbol')\n"
    )
    (tmp_path / "wordfreq.py").write_text("raise ModuleNotFoundError('gone', name='wordfreq')\n")
    done = doctor(tmp_path, "--json")
    assert done.returncode == 1, done.stderr
    found = json.loads(done.stdout)
    packages = {one["name"]: one for one in found["packages"]}
    assert not found["ok"]
    assert {name: one["state"] for name, one in packages.items()} == {
        "jinja2": "broken", "xxhash": "broken", "markupsafe": "ok", "tqdm": "ok", "wordfreq": "missing", "probekit": "ok",
    }  # fmt: skip
    assert "its import ended the process by SIGILL" in packages["xxhash"]["what"]
    assert str(tmp_path / "jinja2.py") in packages["jinja2"]["what"]
    assert packages["jinja2"]["do"].startswith("rename that file or folder")
    assert '".[lexicon]"' in packages["wordfreq"]["do"]
    assert packages["tqdm"]["version"]
    told = " ".join(doctor(tmp_path).stdout.split())
    assert "xxhash: its import ended the process by SIGILL" in told
    assert "the core does not work: see above" in told


def test_a_missing_extra_is_no_failure_and_the_machine_is_described(tmp_path: Path) -> None:
    (tmp_path / "wordfreq.py").write_text("raise ModuleNotFoundError('gone', name='wordfreq')\n")
    done = doctor(tmp_path, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["ok"]
    assert found["machine"]["cores_usable"] >= 1
    assert found["machine"]["cuda"] is not None
    kernels = next(one for one in found["folders"] if "numba" in one["what"])
    assert isinstance(kernels["writable"], bool)
    assert found["folders"][0]["path"] == str(tmp_path)
    assert found["offline"] == {
        "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": os.environ.get("TRANSFORMERS_OFFLINE"),
        "HF_DATASETS_OFFLINE": os.environ.get("HF_DATASETS_OFFLINE"), "asks_the_hub": False,
    }  # fmt: skip
    assert {path.name for path in tmp_path.iterdir()} - {"__pycache__"} == {"wordfreq.py"}, (
        "nothing is written"
    )


@pytest.mark.slow
def test_the_whole_of_it_works_here(tmp_path: Path) -> None:
    done = doctor(tmp_path, script="from probekit import cli; cli.main()")
    assert done.returncode == 0, done.stdout
    assert done.stdout.rstrip().endswith("the core works")


@pytest.mark.parametrize(
    ("told", "what", "do"),
    [
        ({"error": "ValueError", "message": "numpy.dtype size changed"}, "built for another NumPy", "numba numpy"),
        ({"error": "OSError", "message": "x.so.12: cannot open shared object file"}, "a compiled library", "--force-r"),
        ({"error": "ModuleNotFoundError", "message": "No x", "missing": "x"}, "needs a package that", "pip install x"),
        ({"error": "AttributeError", "message": ""}, "raised AttributeError: no message; its files", "--force-r"),
        ({"ended": "did not end within 300 s"}, "its import did not end within 300 s", "look for a build"),
    ],
)  # fmt: skip
def test_what_a_failure_means(told: dict[str, str], what: str, do: str) -> None:
    meaning, advice = explained("numba", "numba", told)
    assert what in meaning
    assert do in advice
