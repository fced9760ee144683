"""What a terminal shows is what was written: brackets in help, names and paths are no markup."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import typer

from probekit import cli
from probekit.cli.terminal import say
from probekit.errors import InputError


def commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command with its words."""
    yield path, command
    for name, child in getattr(command, "commands", {}).items():
        yield from commands(child, (*path, name))


EVERY = list(commands(typer.main.get_command(cli.app)))


def squeezed(text: str) -> str:
    """Without frames, line ends and hyphens that were broken at."""
    return re.sub(r"[\s│╭╮╰╯─]+", "", text)


@pytest.mark.parametrize(
    ("path", "command"), EVERY, ids=lambda item: " ".join(item) if isinstance(item, tuple) else ""
)
def test_no_help_loses_a_word(
    path: tuple[str, ...], command: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(sys, "argv", ["probekit", *path, "--help"])
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 0
    printed = squeezed(capsys.readouterr().out)
    told = [command.help or "", *(getattr(parameter, "help", None) or "" for parameter in command.params)]
    lost = [text for text in told if squeezed(text.replace("\\[", "[")) not in printed]
    assert not lost
    if path == ("analyze",):
        assert "[science]and[execution]" in printed


def test_a_message_stands_as_it_is(capsys: pytest.CaptureFixture[str]):
    say("runs/[a]/[bold]x", lead="[b]")
    assert capsys.readouterr().err == "[b]runs/[a]/[bold]x\n"
    say("nothing", quiet=True)
    assert capsys.readouterr().err == ""


def test_an_error_with_brackets_stands_as_it_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def verified(folder: Any) -> str:
        raise InputError("pairs: got ['a'], wanted [token, neuron] of [red]")

    monkeypatch.setattr("probekit.cli.analysis.verified", verified)
    monkeypatch.setattr(sys, "argv", ["probekit", "verify", "[x]"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    assert capsys.readouterr().err == "error InputError: pairs: got ['a'], wanted [token, neuron] of [red]\n"
