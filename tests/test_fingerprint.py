"""Two values have the same digest exactly if they are the same."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from probekit import fingerprint
from probekit.errors import OutOfMemoryError, as_ours, lacks_memory
from probekit.fingerprint import CannotTellError, of_array, of_bytes, of_file, of_parts, of_tensor, of_value


@dataclass
class One:
    x: Any


@dataclass
class Two:
    x: Any


DIFFERENT: list[Any] = [
    None, True, False, 0, 1, 0.0, -0.0, 1.0, "", "1", "None", b"", b"1", [], (), {}, set(), [1], (1,), [1, 2], [[1], 2],
    [[1, 2]], [1, [2]], ["ab", "c"], ["a", "bc"], ["a", "b", "c"], {"a": 1}, {"a": 2}, {1: "a"}, {1, 2}, Path("1"),
    np.float32(1), np.zeros(2), np.zeros(2, np.float32), np.zeros((2, 1)), np.zeros((1, 2)), np.array([0.0, -0.0]),
    np.zeros(2, ">f8"), torch.zeros(2), torch.zeros(2, dtype=torch.bfloat16), torch.zeros(2, 1), torch.zeros(0), np.zeros(0),
    One(1), Two(1), One(2), One(One(1)), "\\udc80", [np.zeros(2)],
]  # fmt: skip


def test_what_differs_in_type_shape_or_content_has_another_digest() -> None:
    digests = [of_value(value) for value in DIFFERENT]
    for (a, one), (b, two) in itertools.combinations(zip(DIFFERENT, digests, strict=True), 2):
        assert one != two, (a, b)
    assert digests == [of_value(value) for value in DIFFERENT]


def test_the_order_of_a_mapping_and_the_layout_of_an_array_are_no_content() -> None:
    assert of_value({"a": 1, "b": 2}) == of_value({"b": 2, "a": 1})
    values = np.arange(12.0).reshape(3, 4)
    assert of_array(np.asfortranarray(values)) == of_array(values) == of_array(np.repeat(values, 2, 0)[::2])
    assert of_tensor(torch.from_numpy(values).T) == of_tensor(torch.from_numpy(values.T.copy()))


def test_what_has_no_content_of_its_own_is_refused() -> None:
    for value in (lambda: 0, object(), [print], torch.zeros(2, device="meta"), np.array([object()])):
        with pytest.raises(CannotTellError, match=r"^an? "):
            of_value(value)


@settings(deadline=None)  # threads take their time on a busy machine
@given(
    data=st.binary(min_size=1, max_size=40),
    at=st.integers(0, 39),
    bit=st.integers(0, 7),
    leaf=st.integers(1, 9),
)
def test_every_bit_of_every_leaf_counts(data: bytes, at: int, bit: int, leaf: int) -> None:
    changed = bytearray(data)
    changed[at % len(data)] ^= 1 << bit
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fingerprint, "LEAF", leaf)
        whole = of_bytes(data)
        assert of_bytes(bytes(changed)) != whole
        assert of_bytes(data[:-1]) != whole
        assert of_bytes(data + b"\0") != whole
        assert of_bytes(memoryview(bytearray(data))) == whole


@pytest.mark.parametrize("n_threads", [1, 3])
def test_a_file_is_its_bytes_however_many_read_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, n_threads: int
) -> None:
    data = np.random.default_rng(0).bytes(1_001)
    wanted: list[int] = []
    (tmp_path / "file").write_bytes(data)
    monkeypatch.setattr(fingerprint, "LEAF", 100)
    monkeypatch.setattr(fingerprint, "N_THREADS", n_threads)
    assert of_file(tmp_path / "file", wanted.append) == of_bytes(data)
    assert wanted == [100] * 10 + [1]


def test_where_a_word_ends_counts() -> None:
    assert len({of_parts(parts) for parts in (["ab", "c"], ["a", "bc"], ["abc"], ["ab", "c", ""])}) == 4


class TestNoMemory:
    """Running out of memory is said as such, wherever torch says it, and never as content that cannot be told."""

    def test_while_a_tensor_is_read(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def contiguous(_: torch.Tensor) -> torch.Tensor:
            raise torch.OutOfMemoryError("tried to allocate more than there is")

        with pytest.raises(CannotTellError, match=r"a tensor of torch\.float32 on meta"):  # the control
            of_tensor(torch.ones(2, device="meta"))
        monkeypatch.setattr(torch.Tensor, "contiguous", contiguous)
        with pytest.raises(OutOfMemoryError, match=r"tried to allocate.*float32 \(2,\) needs some 8 bytes"):
            of_tensor(torch.ones(2))

    def test_on_a_cpu(self) -> None:
        with pytest.raises(RuntimeError, match="DefaultCPUAllocator: can't allocate memory") as caught:
            torch.empty(10**15)
        assert lacks_memory(caught.value)
        assert isinstance(as_ours(caught.value), OutOfMemoryError)
        assert not lacks_memory(RuntimeError("shapes do not fit"))
