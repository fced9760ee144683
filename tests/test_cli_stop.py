"""Ctrl-C and a polite kill, sent to a real process: its own exit code, and words on how to go on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest

import probekit as pk
from probekit import cli
from probekit.cli.stop import Terminated, listening

JOB = (
    "analyze",
    "nano",
    "--layers",
    "1",
    "--twins",
    "4",
    "--max-pairs",
    "20",
    "--min-support",
    "20",
    "--max-tokens",
)
PATIENCE = 240
"""Seconds until a process that has begun must have come as far as the test wants it; loading torch alone takes some."""


def as_from_a_terminal() -> None:
    """A suite that runs in the background or under nohup hands down ignored signals, which a child keeps ignoring."""
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)


class Process:
    """The command as a shell starts it: a process group of its own, which the terminal's Ctrl-C reaches as a whole."""

    def __init__(self, folder: Path, *words: str) -> None:
        self.folder = folder
        self._told = (folder / "told.txt").open("w+")
        self.running = subprocess.Popen(
            [sys.executable, "-m", "probekit", *words],
            cwd=folder,
            stdout=self._told,
            stderr=self._told,
            start_new_session=True,
            preexec_fn=as_from_a_terminal,
            env={**os.environ, "PYTHONPATH": str(Path(cli.__file__).parents[2])},
        )

    def wait_for(self, seen: Callable[[], bool]) -> None:
        """Until something is seen, while the process runs."""
        until = time.monotonic() + PATIENCE
        while not seen():
            assert self.running.poll() is None, f"ended with {self.running.returncode}: {self.told()}"
            assert time.monotonic() < until, "it never came so far"
            time.sleep(0.02)

    def stopped(self, number: signal.Signals) -> tuple[int, str]:
        """Exit code and what was printed, after the whole group got a signal."""
        os.killpg(self.running.pid, number)
        code = self.running.wait(PATIENCE)
        return code, self.told()

    def told(self) -> str:
        """What was printed so far, in one line."""
        return " ".join((self.folder / "told.txt").read_text().split())

    def end(self) -> None:
        """Leave nothing running."""
        if self.running.poll() is None:
            os.killpg(self.running.pid, signal.SIGKILL)
            self.running.wait()
        self._told.close()


@pytest.fixture
def started(tmp_path: Path) -> Generator[Callable[..., Process], None, None]:
    held: list[Process] = []

    def start(*words: str) -> Process:
        held.append(Process(tmp_path, *words))
        return held[-1]

    yield start
    for process in held:
        process.end()


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (signal.SIGINT, 130),
        *(
            pytest.param(*stop, marks=pytest.mark.sweep)
            for stop in ((signal.SIGTERM, 143), (signal.SIGHUP, 129))
        ),
    ],
)
def test_a_stop_has_its_own_code_and_says_how_to_go_on(
    started: Callable[..., Process], tmp_path: Path, number: signal.Signals, code: int
):
    process = started(*JOB, "4000", "--out", "my run")
    process.wait_for((tmp_path / "my run" / "run.json").exists)
    got, told = process.stopped(number)
    assert got == code
    assert told.endswith(
        "interrupted; nothing half-written was left behind. my run keeps what was finished; continue with: "
        "probekit resume 'my run'"
    )
    assert sorted(path.name for path in (tmp_path / "my run").iterdir()) == ["run.json"], (
        "the lock is free again"
    )


@pytest.mark.sweep
@pytest.mark.parametrize("engine", ["local", "ray"])
def test_in_the_middle_of_a_pass_and_on(started: Callable[..., Process], tmp_path: Path, engine: str):
    """The run goes on to the same tables, by the words that were printed."""
    if engine == "ray":
        pytest.importorskip("ray")
    process = started(*JOB, "8000", "--engine", engine, "--out", "run")
    if engine == "local":
        process.wait_for(lambda: any((tmp_path / "run").glob("stages/*")))
    else:
        process.wait_for(lambda: any(b"ray::_" in line for line in _command_lines(process.running.pid)))
    code, told = process.stopped(signal.SIGINT if engine == "local" else signal.SIGTERM)
    assert (code, told.count("continue with: probekit resume run")) == (130 if engine == "local" else 143, 1)
    assert "Traceback" not in told
    assert not (tmp_path / "run" / "COMMIT.json").exists()
    again = started(*told.rpartition("probekit ")[2].split())
    assert again.running.wait(PATIENCE) == 0, again.told()
    whole = started(*JOB, "8000", "--out", "whole")
    assert whole.running.wait(PATIENCE) == 0
    assert pk.load(tmp_path / "run").pairs().equals(pk.load(tmp_path / "whole").pairs())


def _command_lines(session: int) -> list[bytes]:
    """Of all processes whose session the given one leads, or that it started."""
    import psutil

    try:
        return [
            b" ".join(part.encode() for part in p.cmdline())
            for p in psutil.Process(session).children(recursive=True)
        ]
    except psutil.Error:
        return []


class TestInThisProcess:
    @pytest.fixture
    def stopping(self, monkeypatch: pytest.MonkeyPatch) -> Callable[[BaseException], int]:
        """The code with which `probekit verify` ends when what it calls raises something."""

        def run(error: BaseException) -> int:
            def verified(folder: Path) -> str:
                raise error

            monkeypatch.setattr("probekit.cli.analysis.verified", verified)
            monkeypatch.setattr(sys, "argv", ["probekit", "verify", "."])
            with pytest.raises(SystemExit) as ended:
                cli.main()
            assert isinstance(ended.value.code, int)
            return ended.value.code

        return run

    @pytest.mark.parametrize(
        ("error", "code"),
        [
            (KeyboardInterrupt(), 130),
            (Terminated(signal.SIGTERM), 143),
            (Terminated(signal.SIGHUP), 129),
            (SystemExit(7), 7),
        ],
    )
    def test_codes(self, stopping: Callable[[BaseException], int], error: BaseException, code: int):
        assert stopping(error) == code

    def test_without_a_run_the_same_command_is_told(
        self, stopping: Callable[[BaseException], int], capsys: pytest.CaptureFixture[str]
    ):
        stopping(KeyboardInterrupt())
        assert capsys.readouterr().err.split("\n")[1] == "Run the same command again."

    def test_help_and_no_command_are_no_failure_and_a_slip_is(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ):
        for words, code in (
            (["--help"], 0),
            (["analyze", "--help"], 0),
            (["circuits"], 0),
            (["anallyze"], 2),
            ([], 2),
        ):
            monkeypatch.setattr(sys, "argv", ["probekit", *words])
            with pytest.raises(SystemExit) as ended:
                cli.main()
            assert ended.value.code == code, words
        capsys.readouterr()

    def test_handlers_are_put_back_and_nohup_is_heeded(self, monkeypatch: pytest.MonkeyPatch):
        before = {n: signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGHUP)}
        try:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
            with listening():
                assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
                with pytest.raises(Terminated):
                    os.kill(os.getpid(), signal.SIGTERM)
            assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def test_a_signal_counts_though_compiled_code_replaced_what_it_raised(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ):
        """Ray's waiting looks for signals itself and raises a KeyboardInterrupt of its own."""

        def verified(folder: Path) -> str:
            try:
                signal.raise_signal(signal.SIGTERM)
            except Terminated:
                raise KeyboardInterrupt from None
            return "not stopped"

        monkeypatch.setattr("probekit.cli.analysis.verified", verified)
        monkeypatch.setattr(sys, "argv", ["probekit", "verify", "."])
        before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
        try:
            with pytest.raises(SystemExit) as ended:
                cli.main()
        finally:
            signal.signal(signal.SIGTERM, before)
        assert ended.value.code == 143
        assert "interrupted" in capsys.readouterr().err

    def test_beside_the_main_thread_no_handler_is_asked_for(self):
        raised: list[Any] = []

        def work() -> None:
            try:
                with listening():
                    pass
            except ValueError as error:  # what signal.signal says outside the main thread
                raised.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        assert not raised
