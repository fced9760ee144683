"""Can the tests fail? Plant one defect of one line at a time in a copy of the repository and see which test goes red.

    python analyses/reliability/sabotage.py              all of them; result: analyses/results/sabotage.md
    python analyses/reliability/sabotage.py --only 3 7   some of them: their lines of the result are renewed

Each defect (defects.py) names the tests that ought to find it. All of these are first run once on the sound copy, where they
must be green. Every run is a fork of a process that has loaded the libraries: loading them anew for each defect would take
longer than the tests.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import sys
import tempfile
import time
import traceback
from importlib import import_module
from pathlib import Path

from defects import DEFECTS, Defect

ROOT = Path(__file__).parents[2]
RESULT = ROOT / "analyses" / "results" / "sabotage.md"
FOUND = RESULT.with_suffix(".json")
SECONDS, SECONDS_SOUND = 900, 5_400
"""Longest run of a defect's tests, and of all of them on the sound copy."""
LIBRARIES = (
    "altair", "beartype", "datasets", "hypothesis", "jaxtyping", "numba", "pandas", "pyarrow.parquet", "pytest",
    "safetensors.numpy", "scipy.stats", "sklearn.linear_model", "tokenizers", "torch", "transformer_lens",
    "transformers",
)  # fmt: skip
SETTINGS = {
    "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1", "NUMBA_THREADING_LAYER": "workqueue", "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
}  # fmt: skip
GREEN, RED, INTERRUPTED = 0, 1, 2


class Copy:
    """A copy of the repository, to be spoilt."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "probekit"
        # kernels are compiled anew where their file is changed (tests/meta/test_kernels.py: no other file is in them)
        self._kernels, self.log = folder / "kernels", folder / "log.txt"
        shutil.copytree(
            ROOT, self.root, ignore=shutil.ignore_patterns(".git", ".venv", ".*_cache", "__pycache__", "runs")
        )

    def path(self, defect: Defect) -> Path:
        """The file that is spoilt."""
        return self.root / "probekit" / defect.file

    def ran(self, words: list[str], seconds: int = SECONDS) -> tuple[bool, str]:
        """Whether some tests are green, and the first that is not.

        Args:
            words: of the command line of pytest.
            seconds: after so many they count as red.
        """
        code = self._forked(words, seconds)
        told = self.log.read_text(errors="replace")
        if code is None:
            return False, f"(not finished after {seconds} s)"
        if code not in (GREEN, RED, INTERRUPTED):
            raise SystemExit(f"{' '.join(words)}: ended with {code}\n{told[-3_000:]}")
        first = re.search(r"^(?:FAILED|ERROR) (.+?)(?: - |$)", told, re.MULTILINE)
        return code == GREEN, first.group(1).replace("tests/", "", 1) if first else "(could not be collected)"

    def _forked(self, words: list[str], seconds: int) -> int | None:
        child = os.fork()
        if child == 0:
            code = 3
            try:
                code = self._pytest(words)
            except BaseException:
                traceback.print_exc()
                raise
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.05)
        os.killpg(child, signal.SIGKILL)
        os.waitpid(child, 0)
        return None

    def _pytest(self, words: list[str]) -> int:
        """In the fork: nothing of the sound probekit, neither loaded nor to be found."""
        os.setsid()
        descriptor = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        os.chdir(self.root)
        os.environ.update(PYTHONPATH=str(self.root), NUMBA_CACHE_DIR=str(self._kernels))
        for name in [n for n in sys.modules if n.split(".")[0] == "probekit"]:
            del sys.modules[name]
        sys.path[:] = [str(self.root), *(p for p in sys.path if p and not _within(p, ROOT))]
        sys.dont_write_bytecode = True
        import_module("numba").config.CACHE_DIR = str(self._kernels)
        options = ["-q", "-x", "-n", "0", "-p", "no:cacheprovider", "-m", "not slow and not gpu"]
        options += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]  # the libraries are loaded already
        return int(import_module("pytest").main([*options, *words]))


def _within(path: str, folder: Path) -> bool:
    """Whether a place of modules is the repository's own (its virtual environment is not)."""
    return Path(path) in (folder, folder / "analyses" / "reliability")


def words_of(tests: str) -> list[str]:
    """The command line of a defect's tests."""
    names, _, expression = tests.partition(" -k ")
    return [*names.split(), *(["-k", expression.strip("'")] if expression else [])]


def require_planted(copy: Copy) -> None:
    """Refuse to begin with a list that the code has outgrown."""
    from probekit.errors import InputError

    gone = [
        f"{number} {defect.what}: probekit/{defect.file} holds its line {n} times"
        for number, defect in enumerate(DEFECTS)
        if (n := copy.path(defect).read_text(encoding="utf-8").count(defect.right)) != 1
    ]
    if gone:
        raise InputError(
            "each defect replaces what stands in its file exactly once; mend defects.py:\n" + "\n".join(gone)
        )


def main() -> None:
    """Plant each, run, take it out again."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", type=int, nargs="*", help="numbers of the defects")
    chosen = parser.parse_args().only
    os.environ.update(SETTINGS)
    for library in LIBRARIES:
        import_module(library)
    from probekit.analysis import run_fingerprint
    from probekit.storage import store

    planted = [(number, defect) for number, defect in enumerate(DEFECTS) if not chosen or number in chosen]
    found: dict[str, dict[str, str]] = store.read_json(FOUND) if chosen and FOUND.exists() else {}
    with tempfile.TemporaryDirectory() as name:
        copy = Copy(Path(name))
        require_planted(copy)
        begun = time.monotonic()
        files = {
            word for _, defect in planted for word in words_of(defect.tests) if word.startswith("tests/")
        }
        green, first = copy.ran(sorted(files), SECONDS_SOUND)
        if not green:
            raise SystemExit(f"red without any defect: {first}\n{copy.log.read_text()[-3_000:]}")
        print(f"sound: green after {time.monotonic() - begun:.0f} s", flush=True)
        for number, defect in planted:
            path, begun = copy.path(defect), time.monotonic()
            text = path.read_text(encoding="utf-8")
            store.write_text(path, text.replace(defect.right, defect.wrong))
            green, first = copy.ran(words_of(defect.tests))
            store.write_text(path, text)
            found[defect.what] = {"by": "" if green else first, "code": run_fingerprint.code()}
            print(
                number,
                defect.what,
                "SURVIVES" if green else first,
                f"{time.monotonic() - begun:.0f} s",
                flush=True,
            )
            store.write_json(FOUND, found)
            store.write_text(RESULT, table(found))
    sys.exit(any(not one["by"] for one in found.values()))


def table(found: dict[str, dict[str, str]]) -> str:
    """The result so far."""
    rows: list[str] = []
    for number, defect in enumerate(DEFECTS):
        if defect.what in found:
            told = found[defect.what]
            by = f"`{told['by']}`" if told["by"] else "**survives**"
            rows.append(f"| {number} | {defect.what} | `{defect.file}` | {by} | `{told['code'][:8]}` |")
    n_survived = sum(not found[defect.what]["by"] for defect in DEFECTS if defect.what in found)
    head = f"""# Sabotage: which test finds which defect

`python analyses/reliability/sabotage.py`: one line at a time is made wrong in a copy of the repository; the named test is
the first that went red. Without a defect all of these tests are green. {len(rows)} of {len(DEFECTS)} defects planted, {n_survived} survived.
`code` is the digest of the source a result passes through, before it was spoilt.

| | defect | in `probekit/` | found by | code |
|---|---|---|---|---|
"""  # noqa: E501
    return head + "\n".join(rows) + "\n"


if __name__ == "__main__":
    main()
