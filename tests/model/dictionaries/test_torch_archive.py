"""Archives of PyTorch read without unpickling: the same arrays as PyTorch reads; hostile and damaged ones refused."""

from __future__ import annotations

import io
import pickle  # noqa: TID251 - to make what must be refused
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from probekit.errors import InputError
from probekit.model.dictionaries.torch_archive import read_archive


@pytest.fixture
def no_pickle(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever unpickles anything fails."""

    def refuse(*args: object, **options: object) -> None:
        raise AssertionError("something was unpickled")

    for module, name in ((pickle, "load"), (pickle, "loads"), (pickle, "Unpickler"), (torch, "load")):
        monkeypatch.setattr(module, name, refuse)


def saved(path: Path, what: Any, **options: Any) -> Path:
    torch.save(what, path, **options)  # noqa: TID251
    return path


def test_the_same_arrays_as_pytorch(tmp_path: Path, no_pickle: None) -> None:
    generator = torch.Generator().manual_seed(0)
    base = torch.randn(6, 8, generator=generator)
    given = {
        "plain": base, "transposed": base.T, "part": base[1:4, ::2], "row": base[2],
        "scalar": torch.tensor(3, dtype=torch.int32),
        "empty": torch.zeros(0, 5),
        "parameter": torch.nn.Parameter(base[:, :3]), "double": base.double(), "half": base.half(),
        "bfloat16": base.bfloat16(), "long": torch.arange(5), "bool": base > 0, "byte": torch.arange(5, dtype=torch.uint8),
    }  # fmt: skip
    for what in (given, OrderedDict(given)):
        read = read_archive(saved(tmp_path / "ae.pt", what))
        assert list(read) == list(given)
        for name, array in given.items():
            assert read[name].dtype == array.dtype
            assert torch.equal(read[name], array), name


def test_a_module(tmp_path: Path, no_pickle: None) -> None:
    module = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    read = read_archive(saved(tmp_path / "ae.pt", module.state_dict()))
    assert read.keys() == module.state_dict().keys()
    assert all(torch.equal(read[name], array) for name, array in module.state_dict().items())


class Exploit:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.mark,))


def archive(pickled: bytes, numbers: bytes = bytes(16), compression: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as made:
        made.writestr("archive/data.pkl", pickled)
        made.writestr("archive/data/0", numbers)
        made.writestr("archive/version", "3\n")
    return buffer.getvalue()


def state(
    count: int = 4,
    offset: int = 0,
    size: tuple[int, ...] = (4,),
    stride: tuple[int, ...] = (1,),
    call: str = "torch._utils\n_rebuild_tensor_v2\n",
) -> bytes:
    """The pickle of one array, written by hand."""

    def number(n: int) -> bytes:
        return b"\x8a\x09" + n.to_bytes(9, "little", signed=True)

    def word(text: str) -> bytes:
        return b"X" + struct.pack("<I", len(text)) + text.encode()

    def numbers(values: tuple[int, ...]) -> bytes:
        return b"(" + b"".join(map(number, values)) + b"t"

    storage = (
        b"(" + word("storage") + b"ctorch\nFloatStorage\n" + word("0") + word("cpu") + number(count) + b"tQ"
    )
    arguments = b"(" + storage + number(offset) + numbers(size) + numbers(stride) + b"\x89}t"
    return b"\x80\x02}" + word("a") + b"c" + call.encode() + arguments + b"Rs."


def torch_file(what: Any, **options: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(what, buffer, **options)  # noqa: TID251
    return buffer.getvalue()


HOSTILE: dict[str, tuple[Callable[[Path], bytes], str]] = {
    "code in a checkpoint": (lambda mark: torch_file({"a": Exploit(mark)}), "its pickle names"),
    "code in a plain pickle": (lambda mark: pickle.dumps(Exploit(mark)), "no archive of arrays"),
    "code by protocol 4": (lambda mark: archive(pickle.dumps({"a": Exploit(mark)}, 4)), "has the instruction FRAME"),
    "eval": (lambda mark: archive(state(call="builtins\neval\n")), r"names builtins\.eval, which no array needs"),
    "a whole module": (lambda mark: torch_file(torch.nn.Linear(2, 2)), "its pickle names"),
    "an old archive": (lambda mark: torch_file({"a": torch.zeros(3)}, _use_new_zipfile_serialization=False), "BadZipFile"),
    "no arrays": (lambda mark: torch_file({"a": 3}), "'a' is no array"),
    "nothing": (lambda mark: torch_file({}), "it holds no arrays"),
    "a list": (lambda mark: torch_file([torch.zeros(3)]), "instruction EMPTY_LIST"),
    "numbers beyond the end": (lambda mark: archive(state(offset=1)), "ends beyond its numbers"),
    "steps beyond the end": (lambda mark: archive(state(stride=(2,))), "ends beyond its numbers"),
    "a negative place": (lambda mark: archive(state(offset=-1)), "describes no array"),
    "an array of 2**62 numbers": (lambda mark: archive(state(size=(2**62,), stride=(0,))), "of shape"),
    "a storage of 2**62 numbers": (lambda mark: archive(state(count=2**62)), "would have"),
    "fewer numbers than told": (lambda mark: archive(state(), bytes(12)), "has 12 bytes, wanted 16"),
    "more numbers than told": (lambda mark: archive(state(), bytes(20)), "has 20 bytes, wanted at most 16"),
    "a zip bomb": (lambda mark: archive(bytes(50_000_000), compression=zipfile.ZIP_DEFLATED), "is compressed"),
    "a pickle of two megabytes": (lambda mark: archive(b"0" * 2_000_000), "wanted at most 1,000,000"),
    "a pickle without end": (lambda mark: archive(state()[:-1]), "no archive of arrays"),
    "a stack that is empty": (lambda mark: archive(b"\x80\x02tR."), "takes what is not there"),
    "an empty file": (lambda mark: b"", "BadZipFile"),
    "a web page": (lambda mark: b"<html></html>", "BadZipFile"),
    "a storage that is a path": (
        lambda mark: archive(state().replace(b"X\x01\x00\x00\x000", b"X\x07\x00\x00\x00../../0")), "KeyError",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_archives_are_refused_and_never_run(name: str, tmp_path: Path, no_pickle: None) -> None:
    make, said = HOSTILE[name]
    (tmp_path / "ae.pt").write_bytes(make(tmp_path / "mark"))
    with pytest.raises(InputError, match=said):
        read_archive(tmp_path / "ae.pt")
    assert not (tmp_path / "mark").exists()


def test_the_control_written_by_hand_is_read(tmp_path: Path, no_pickle: None) -> None:
    numbers = torch.arange(4, dtype=torch.float32).numpy().tobytes()
    (tmp_path / "ae.pt").write_bytes(archive(state(), numbers))
    assert torch.equal(read_archive(tmp_path / "ae.pt")["a"], torch.arange(4.0))


def test_every_flipped_byte_is_refused_or_read(tmp_path: Path, no_pickle: None) -> None:
    """Damage ends in one error of ours, or in arrays of the same shapes; the zip's own sums catch most of it."""
    given = {"a": torch.arange(6.0).reshape(2, 3), "k": torch.tensor(3)}
    whole = torch_file(given)
    n_refused = 0
    for place in range(0, len(whole), 7):
        damaged = bytearray(whole)
        damaged[place] ^= 0xFF
        (tmp_path / "ae.pt").write_bytes(damaged)
        try:
            read = read_archive(tmp_path / "ae.pt")
        except InputError:
            n_refused += 1
        else:
            assert all(torch.equal(read[name], given[name]) for name in read)
    assert n_refused > 20
