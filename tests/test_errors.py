"""The error tree: what each family's exit code is, what a foreign error becomes, and that nothing is swallowed."""

from __future__ import annotations

import errno
import inspect
import re
from pathlib import Path

import numpy as np
import pytest
import torch

import probekit as pk
from probekit import errors
from probekit.errors import (
    DiskFullError,
    FormatError,
    InputError,
    NumericalError,
    OutOfMemoryError,
    ProbekitError,
    StoreError,
    as_ours,
    guarded,
    near,
)
from probekit.storage.verify import verify
from probekit.text.timeouts import call_with_timeout

CLASSES = [
    one for one in vars(errors).values() if inspect.isclass(one) and issubclass(one, ProbekitError)
]  # fmt: skip
FAMILIES = {"InputError": 2, "StoreError": 3, "ResourceError": 4, "ModelError": 5, "NumericalError": 6}


def test_the_drawn_tree_is_the_tree():
    """Names, parents and exit codes of the drawing at the top of the module."""
    assert errors.__doc__ is not None
    drawn: dict[str, tuple[str, int]] = {}
    family, code = "", 0
    for line in errors.__doc__.splitlines():
        match = re.match(r"([│├└─ ]*)(\w+Error)(?:\s+(\d))?", line)
        if match and match.group(1):
            depth = len(match.group(1)) // 4
            if depth == 1:
                family, code = match.group(2), int(match.group(3))
            drawn[match.group(2)] = ("ProbekitError" if depth == 1 else family, code)
    assert len(drawn) == len(CLASSES) - 1
    for one in CLASSES:
        if one is not ProbekitError:
            assert (one.__bases__[0].__name__, one.exit_code) == drawn[one.__name__]
    assert {name: code for name, (parent, code) in drawn.items() if parent == "ProbekitError"} == FAMILIES


@pytest.mark.parametrize(
    ("foreign", "ours", "told"),
    [
        (MemoryError(), OutOfMemoryError, "no memory left"),
        (torch.OutOfMemoryError("tried to allocate 2 GiB"), OutOfMemoryError, "tried to allocate 2 GiB"),
        (OSError(errno.ENOSPC, "full"), DiskFullError, "no space left"),
        (OSError(errno.EDQUOT, "quota"), DiskFullError, "no space left"),
        (OSError(errno.EFBIG, "limit"), DiskFullError, "no space left"),
        (PermissionError(errno.EACCES, "denied"), StoreError, "the file system refused .*denied"),
        (ZeroDivisionError("by zero"), NumericalError, "check the activations"),
        (np.linalg.LinAlgError("singular"), NumericalError, "singular"),
        (KeyError("k"), ProbekitError, "unforeseen: KeyError: 'k'. This is a defect of probekit"),
    ],
)
def test_a_foreign_error_becomes_one_of_ours(foreign: Exception, ours: type[ProbekitError], told: str):
    assert type(as_ours(foreign)) is ours

    @guarded
    def entry() -> None:
        raise foreign

    with pytest.raises(ours, match=told) as caught:
        entry()
    assert type(caught.value) is ours
    assert caught.value.__cause__ is foreign  # a defect still shows itself
    assert caught.value.__notes__ == [f"in probekit.{entry.__qualname__}"]


def test_an_error_of_ours_stays_the_one_it_is():
    mine = FormatError("newer")

    @guarded
    def entry() -> None:
        raise mine

    with pytest.raises(FormatError, match="newer") as caught:
        entry()
    assert caught.value is mine
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("stop", [KeyboardInterrupt(), SystemExit(3)])
def test_what_ends_the_program_is_no_error(stop: BaseException):
    @guarded
    def entry() -> None:
        raise stop

    with pytest.raises(type(stop)) as caught:
        entry()
    assert caught.value is stop
    assert not hasattr(stop, "__notes__")


def test_a_guarded_entry_gives_what_it_gives():
    @guarded
    def entry(a: int, *, b: int) -> int:
        """Adds."""
        return a + b

    assert entry(1, b=2) == 3
    assert (entry.__name__, entry.__doc__) == ("entry", "Adds.")


@pytest.mark.parametrize("path", [None, 3, object(), [], "", "a\0b"])
@pytest.mark.parametrize("read", [pk.load, verify])
def test_what_is_no_path_is_said(read: object, path: object):
    bare = inspect.unwrap(read)  # pyright: ignore[reportArgumentType] - below the suite's own type checks
    with pytest.raises(InputError, match="wanted the path of a run directory"):
        bare(path)


def test_a_run_whose_files_may_not_be_read_is_said(tmp_path: Path):
    (tmp_path / "run.json").mkdir()
    with pytest.raises(StoreError, match="could not be read"):
        pk.load(tmp_path)


class TestWaiting:
    """`call_with_timeout` carries whatever a call raised to the thread that waits: nothing is lost in the other thread."""

    @pytest.mark.parametrize("error", [OSError("no route"), KeyboardInterrupt(), SystemExit(2)])
    def test_what_was_raised_is_raised_here(self, error: BaseException):
        def call() -> None:
            raise error

        with pytest.raises(type(error)) as caught:
            call_with_timeout(5.0, call)
        assert caught.value is error

    def test_a_result_in_time_and_none_in_time(self):
        assert call_with_timeout(5.0, lambda: None) is None
        assert call_with_timeout(5.0, lambda: 7) == 7
        import threading

        never = threading.Event()
        with pytest.raises(TimeoutError, match=r"no answer in 0\.01 s"):
            call_with_timeout(0.01, lambda: never.wait(5))
        never.set()


class TestNames:
    """What may have been meant."""

    NAMES = ("prev:capitalised", "capitalised", 'prev=" New"', 'cur=" York"', "prev:digit", "Prev:Upper")

    @pytest.mark.parametrize(
        ("asked", "first"),
        [
            ("prev:capitalized", "prev:capitalised"), ("capitalized", "capitalised"), ("New", 'prev=" New"'),
            ("prev=new", 'prev=" New"'), ("cur=Yrok", 'cur=" York"'), ("prev:upper", "Prev:Upper"), ("digit", "prev:digit"),
        ],
    )  # fmt: skip
    def test_the_likeliest_first(self, asked: str, first: str) -> None:
        assert near(asked, self.NAMES)[0] == first

    def test_nothing_where_nothing_is_like_it(self) -> None:
        assert near("zzzz", self.NAMES) == []
        assert near("", self.NAMES) == []
        assert near('""', self.NAMES) == []

    def test_so_many_at_most(self) -> None:
        assert near("a", [f"a{i}" for i in range(99)], most=3) == ["a0", "a1", "a2"]
