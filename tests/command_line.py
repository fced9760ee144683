"""`probekit` as a shell would start it, in this process."""

from __future__ import annotations

import sys

import pytest

from probekit import cli


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    """Exit code, standard output, and the standard error on one line."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["probekit", *words])
        with pytest.raises(SystemExit) as done:
            cli.main()
    captured = capsys.readouterr()
    return int(done.value.code or 0), captured.out, " ".join(captured.err.split())
