"""`probekit --version`, and what a shell completes."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from probekit import cli
from probekit.version import VERSION

SCRIPT = "import sys; sys.argv[0] = 'probekit'; from probekit import cli; cli.main()"


def shell(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, as a shell starts it."""
    return subprocess.run(
        [sys.executable, "-c", SCRIPT, *words],
        capture_output=True, text=True, check=False, env={**os.environ, **environment},
    )  # fmt: skip


@pytest.mark.parametrize("option", ["--version", "-V"])
def test_version(option: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["probekit", option])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"probekit {VERSION}\n"


def test_the_shell_completes_commands_and_options() -> None:
    done = shell(_PROBEKIT_COMPLETE="complete_bash", COMP_WORDS="probekit re", COMP_CWORD="1")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["report", "resume"]
    done = shell(_PROBEKIT_COMPLETE="complete_bash", COMP_WORDS="probekit verify --", COMP_CWORD="2")
    assert "--help" in done.stdout.split()


def test_completion_can_be_installed() -> None:
    done = shell("--help", COLUMNS="200")
    assert "--install-completion" in done.stdout
    assert "--show-completion" in done.stdout
    done = shell("--show-completion", "bash", _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1")
    assert "_PROBEKIT_COMPLETE=complete_bash" in done.stdout
