"""What a release says of itself in several files is the same in all of them."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import yaml

import probekit as pk

ROOT = Path(pk.__file__).parents[1]


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def test_the_version_has_one_owner():
    project = tomllib.loads(text("pyproject.toml"))
    assert project["project"]["dynamic"] == ["version"]
    assert project["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "probekit.version.VERSION"}
    assert re.fullmatch(r"\d+\.\d+\.\d+", pk.__version__)
    assert yaml.safe_load(text("CITATION.cff"))["version"] == pk.__version__


def test_the_changelog_has_notes_for_the_version():
    headings = re.findall(r"^## (.+)$", text("CHANGELOG.md"), re.M)
    assert headings[:2] == ["Unreleased", pk.__version__]
    notes = text("CHANGELOG.md").split(f"## {pk.__version__}\n")[1].split("\n## ")[0]
    assert len(notes.split()) > 20


def test_pre_commit_uses_the_locked_tools():
    locked = dict(line.split("==") for line in text("constraints.txt").splitlines() if "==" in line)
    hooks = [
        hook for repo in yaml.safe_load(text(".pre-commit-config.yaml"))["repos"] for hook in repo["hooks"]
    ]
    asked = [one.split("==") for hook in hooks for one in hook.get("additional_dependencies", [])]
    assert [name for name, _ in asked] == ["ruff", "ruff"]
    assert all(version == locked[name] for name, version in asked)
    # every command of `make check` has its hook
    checks = text("Makefile").split("\ncheck:")[1].split("\n\n")[0]
    commands = {line.split("/")[1].removesuffix(" .").split(" --")[0] for line in checks.splitlines()[1:]}
    entries = {hook["entry"].removeprefix(".venv/bin/").split(" --")[0] for hook in hooks}
    assert commands == entries


def test_the_hosted_workflow_calls_what_is_called_here():
    job = yaml.safe_load(text(".github/workflows/ci.yml"))["jobs"]["ci"]
    assert [step["run"] for step in job["steps"] if "run" in step] == [".ci/run"]
    classifiers = tomllib.loads(text("pyproject.toml"))["project"]["classifiers"]
    ours = [c.rpartition(" ")[2] for c in classifiers if re.search(r":: 3\.\d+$", c)]
    assert job["strategy"]["matrix"]["python"] == ours
