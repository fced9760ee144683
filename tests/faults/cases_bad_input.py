"""R5: whatever is wrong with the input, one error of the InputError family that names the argument, and the disk as it was.

Each property draws ways of being wrong; hypothesis runs it EXAMPLES times. The directory given as `out` holds a finished run
and `force` is set: the worst place to be half-way in. test_bad_input.py runs this file as users run probekit, without the type
checks that the suite wraps around every function: they would refuse first, with an error of their own.
"""

# ruff: noqa: E501 - tables are read along their rows

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import probekit as pk
from probekit.analysis.api import analyze_arrays
from probekit.analysis.settings import read_config
from probekit.errors import InputError, ProbekitError

EXAMPLES = int(os.environ.get("EXAMPLES", "100"))
PART, N_PARTS = int(os.environ.get("PART", "0")), int(os.environ.get("N_PARTS", "1"))
"""The properties are dealt to so many processes."""

Draw = Callable[[Any], Any]
N_TOKENS, N_CONCEPTS, N_NEURONS, N_INPUTS = 120, 3, 5, 4
RNG = np.random.default_rng(0)
LABELS = RNG.random((N_TOKENS, N_CONCEPTS)) < 0.4
INPUTS = RNG.standard_normal((N_TOKENS, N_INPUTS))
W_IN, B_IN = RNG.standard_normal((N_NEURONS, N_INPUTS)), np.zeros(N_NEURONS)
GOOD: dict[str, Any] = {
    "neurons": np.maximum(INPUTS @ W_IN.T, 0), "labels": LABELS, "docs": np.arange(N_TOKENS) // 3, "inputs": INPUTS,
    "weights": (W_IN, B_IN), "twins": 4, "min_support": 2, "progress": False,
}  # fmt: skip
BAD_FLOATS = st.sampled_from([np.nan, np.inf, -np.inf, 1e39, -3e300])
NOT_NUMBERS = st.sampled_from(
    ["abc", object(), {"a": 1}, [["a"]], [[1.0], [1.0, 2.0]], np.array(["x"]), b"bytes"]
)
NOT_WHOLE = st.sampled_from([1.5, "4", None, True, np.nan, [4], 2.0])


def spoiled(values: np.ndarray, draw: Draw) -> np.ndarray:
    """One to all entries replaced by what float32 cannot hold."""
    out = np.array(values, np.float64)
    n = draw(st.sampled_from([1, 2, 17, out.size]))
    where = draw(st.integers(0, out.size - 1))
    out.reshape(-1)[(where + np.arange(n)) % out.size] = draw(BAD_FLOATS)
    return out


def of_rank(values: np.ndarray, draw: Draw, rank: int) -> np.ndarray:
    """The same numbers with another number of axes."""
    wrong = draw(st.sampled_from([r for r in (0, 1, 2, 3, 4) if r != rank]))
    return np.resize(values, (3,) * wrong)


def of_length(n: int, draw: Draw) -> np.ndarray:
    """Token indices for another number of tokens."""
    return np.arange(draw(st.integers(0, 3 * n).filter(lambda m: m != n))) % n


PROPERTIES: dict[str, tuple[str, Callable[[Draw], dict[str, Any]]]] = {
    # name: (what the message names, the wrong arguments)
    "neurons of another rank": ("neurons", lambda d: {"neurons": of_rank(GOOD["neurons"], d, 2)}),
    "neurons not finite": ("neurons", lambda d: {"neurons": spoiled(GOOD["neurons"], d)}),
    "neurons no numbers": ("neurons", lambda d: {"neurons": d(NOT_NUMBERS)}),
    "neurons complex": ("neurons", lambda d: {"neurons": GOOD["neurons"] * (1j + d(st.floats(-1, 1)))}),
    "neurons of other tokens": (
        "labels|neurons",
        lambda d: {"neurons": GOOD["neurons"][of_length(N_TOKENS, d)]},
    ),
    "neurons of another width than the weights": (
        "weights",
        lambda d: {"neurons": np.ones((N_TOKENS, d(st.integers(1, 40).filter(lambda n: n != N_NEURONS))))},
    ),
    "no token at all": ("labels", lambda d: {k: GOOD[k][:0] for k in ("neurons", "labels", "docs", "inputs")}),
    "one token": (
        "testable", lambda d: {k: GOOD[k][(i := d(st.integers(0, 99))) : i + 1] for k in ("neurons", "labels", "docs", "inputs")}
        | {"inputs": None, "weights": None} | {k: GOOD[k][:1] for k in ("neurons", "labels", "docs")},
    ),
    "labels of another rank": ("labels", lambda d: {"labels": of_rank(LABELS, d, 2)}),
    "labels of other tokens": ("labels", lambda d: {"labels": LABELS[of_length(N_TOKENS, d)]}),
    "labels other than 0 and 1": (
        "labels",
        lambda d: {"labels": LABELS * d(st.floats(-9, 9).filter(lambda x: x not in (0, 1, -0.0)))},
    ),
    "labels not finite": ("labels", lambda d: {"labels": spoiled(LABELS.astype(float), d)}),
    "labels no numbers": ("labels", lambda d: {"labels": d(NOT_NUMBERS)}),
    "labels of one concept": ("labels", lambda d: {"labels": LABELS[:, d(st.integers(0, 2))][:, None]}),
    "concepts that never hold": (
        "testable",
        lambda d: {"labels": LABELS & (np.arange(N_CONCEPTS) < d(st.integers(0, 1)))},
    ),
    "concepts that always hold": (
        "testable",
        lambda d: {"labels": LABELS | (np.arange(N_CONCEPTS) >= d(st.integers(0, 1)))},
    ),
    "the same concept thrice": ("testable", lambda d: {"labels": np.repeat(LABELS[:, [d(st.integers(0, 2))]], 3, 1)}),
    "docs of other tokens": ("docs", lambda d: {"docs": GOOD["docs"][of_length(N_TOKENS, d)]}),
    "docs that fall": ("docs", lambda d: {"docs": np.roll(GOOD["docs"], d(st.integers(1, N_TOKENS - 1)))}),
    "docs with fractions": ("docs", lambda d: {"docs": GOOD["docs"] + d(st.floats(0, 1))}),
    "docs of another rank": ("docs", lambda d: {"docs": of_rank(GOOD["docs"], d, 1)}),
    "docs no numbers": ("docs", lambda d: {"docs": d(NOT_NUMBERS)}),
    "all of one document": ("testable", lambda d: {"docs": np.full(N_TOKENS, d(st.integers(-9, 2**40)))}),
    "inputs of another rank": ("inputs", lambda d: {"inputs": of_rank(INPUTS, d, 2)}),
    "inputs of other tokens": ("inputs", lambda d: {"inputs": INPUTS[of_length(N_TOKENS, d)]}),
    "inputs not finite": ("inputs", lambda d: {"inputs": spoiled(INPUTS, d)}),
    "inputs no numbers": ("inputs", lambda d: {"inputs": d(NOT_NUMBERS)}),
    "inputs of another width than the weights": (
        "inputs",
        lambda d: {"inputs": np.ones((N_TOKENS, d(st.integers(1, 30).filter(lambda n: n != N_INPUTS))))},
    ),
    "weights of another number of arrays": (
        "weights", lambda d: {"weights": (W_IN,) * d(st.sampled_from([0, 1, 3, 5, 6]))},
    ),
    "weights no tuple": ("weights", lambda d: {"weights": d(st.sampled_from([3, W_IN, "w", {1: 2}, True]))}),
    "weights not finite": ("w_in", lambda d: {"weights": (spoiled(W_IN, d), B_IN)}),
    "weights no numbers": ("weights", lambda d: {"weights": (d(NOT_NUMBERS), B_IN)}),
    "bias of another length": ("b_in", lambda d: {"weights": (W_IN, np.ones(d(st.integers(0, 4))))}),
    "gate of another shape": ("w_gate", lambda d: {"weights": (W_IN, B_IN, W_IN[: d(st.integers(0, 4))], B_IN)}),
    "activation unknown": (
        "activation",
        lambda d: {"activation": d(st.text(max_size=9).filter(lambda t: t.lower() not in ("relu", "gelu", "silu", "swish")))},
    ),
    "names of another number": ("names", lambda d: {"names": d(st.lists(st.text(), max_size=9).filter(lambda n: len(n) != 3))}),
    "names that repeat": ("names", lambda d: {"names": [d(st.text(max_size=3))] * 3}),
    "names with half a character": ("names", lambda d: {"names": ["a", "b", chr(d(st.integers(0xD800, 0xDFFF)))]}),
    "names no list": ("names", lambda d: {"names": d(st.sampled_from([3, "abc", 1.5, True]))}),
    "pairs of unknown names": ("pairs", lambda d: {"pairs": [("c0", d(st.text().filter(lambda t: t not in ("c0", "c1", "c2"))))]}),
    "pairs of a concept with itself": ("pairs", lambda d: {"pairs": [(n := d(st.sampled_from(["c0", "c1", "c2"])), n)]}),
    "pairs that are none": (
        "pairs", lambda d: {"pairs": d(st.sampled_from([[], [1], ["c0"], [("c0",)], [("c0", "c1", "c2")], 7, "c0c1", [None]]))},
    ),
    "twins too few": ("twins", lambda d: {"twins": d(st.integers(-(2**70), 3).filter(lambda n: n))}),
    "twins no whole number": ("twins", lambda d: {"twins": d(NOT_WHOLE)}),
    "max_pairs out of range": ("max_pairs", lambda d: {"max_pairs": d(st.integers(-(2**70), 0) | NOT_WHOLE)}),
    "min_support out of range": ("min_support", lambda d: {"min_support": d(st.integers(-(2**70), 1) | NOT_WHOLE)}),
    "seed out of range": ("seed", lambda d: {"seed": d(st.integers(-(2**70), -1) | st.integers(2**63, 2**80) | NOT_WHOLE)}),
    "q out of range": ("q", lambda d: {"q": d(st.sampled_from([0, 1, np.nan, "x", None, np.inf]) | st.floats(1, 9) | st.floats(-9, 0))}),
    "sizes that are none": (
        "twin_ks", lambda d: {"twin_ks": d(st.sampled_from([3, "16", [1.0], [None], [True], ["4"]]) | st.lists(st.integers(65, 2**70), min_size=1))},
    ),
}  # fmt: skip

OTHER: dict[str, tuple[str, Callable[[Draw, Path], object]]] = {
    "an out that is no path": ("out", lambda d, p: analyze_arrays(**{**GOOD, "out": d(st.sampled_from(["", " ", "a\0b", 3, b"x"]))})),
    "Moments without neurons": ("Moments", lambda d, p: pk.Moments(d(st.integers(-99, 0)), 3)),
    "Moments of other shapes": (
        "Moments.update", lambda d, p: pk.Moments(5, 3).update(of_rank(GOOD["neurons"], d, 2), LABELS, GOOD["docs"]),
    ),
    "Moments not finite": ("activations", lambda d, p: pk.Moments(5, 3).update(spoiled(GOOD["neurons"], d), LABELS, GOOD["docs"])),
    "no readout of k neurons": ("k=", lambda d, p: pk.select_readouts(_seen(), k=d(st.integers(-(2**40), 0)))),
    "tokens no integers": ("from_tokens", lambda d, p: pk.Corpus.from_tokens(np.ones((3, 3)) * d(st.floats(-9, 9)))),
    "tokens too large": ("from_tokens", lambda d, p: pk.Corpus.from_tokens(np.full((2, 2), d(st.integers(2**31, 2**62))))),
    "padding before a token": (
        "from_tokens", lambda d, p: pk.Corpus.from_tokens(np.array([[*[1] * d(st.integers(0, 5)), -d(st.integers(1, 9)), 4]])),
    ),
    "texts no strings": ("from_texts", lambda d, p: pk.Corpus.from_texts(["a", d(st.none() | st.integers() | st.binary())])),
    "a corpus file that is not there": ("corpus", lambda d, p: pk.Corpus.from_file(p / d(st.sampled_from(["x", "../y", "ü/z.txt"])))),
    "configuration with an unknown key": (
        "config", lambda d, p: _config(p, f"[science]\n{d(st.from_regex('[a-z]{9,12}', fullmatch=True))} = 1\n"),
    ),
    "configuration of another type": ("config", lambda d, p: _config(p, f"[science]\ntwins = {d(st.sampled_from(['1.5', 'true', '[]', '{}']))}\n")),
    "configuration that is no TOML": ("config", lambda d, p: _config(p, "[" + d(st.text(max_size=30)))),
}  # fmt: skip


def _seen() -> Any:
    moments = pk.Moments(5, 3)
    moments.update(GOOD["neurons"], LABELS, GOOD["docs"])
    return moments


def _config(folder: Path, text: str) -> object:
    path = folder / "c.toml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    return read_config(path)


def listing(folder: Path) -> dict[str, tuple[int, int]]:
    """Every name with its size and time of change."""
    found = ((p, p.lstat()) for p in sorted(folder.rglob("*")))
    return {str(p.relative_to(folder)): (s.st_size, s.st_mtime_ns) for p, s in found}


def digest(folder: Path) -> str:
    return hashlib.blake2b(
        b"".join(p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file())
    ).hexdigest()


def hypothesised(n_examples: int, work: Callable[[Draw], None]) -> None:
    @settings(
        max_examples=n_examples, deadline=None, derandomize=True, database=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(st.data())
    def example(data: st.DataObject) -> None:
        work(data.draw)

    example()


def one_error(work: Callable[[], object], named: str) -> None:
    with pytest.raises(InputError) as caught:
        work()
    error = caught.value
    assert isinstance(error, ProbekitError)
    assert re.search(named, str(error)), f"{named!r} is not named: {error}"
    assert len(str(error)) < 1_200  # a message, not a dump of the data


def check_arrays(name: str, n_examples: int, finished: Path, tmp_path: Path) -> None:
    named, wrong = PROPERTIES[name]
    before, bytes_before = listing(finished), digest(finished)

    def work(draw: Draw) -> None:
        values = {**GOOD, **wrong(draw)}
        fresh = draw(st.booleans())
        out = tmp_path / "new" / "run" if fresh else finished
        one_error(lambda: analyze_arrays(**values, out=out, force=not fresh), named)
        assert list(tmp_path.iterdir()) == []
        assert listing(finished) == before

    hypothesised(n_examples, work)
    assert digest(finished) == bytes_before


def check_other(name: str, n_examples: int, tmp_path: Path) -> None:
    named, wrong = OTHER[name]
    hypothesised(n_examples, lambda draw: one_error(lambda: wrong(draw, tmp_path), named))


def test_there_are_forty_properties():
    assert len(PROPERTIES) + len(OTHER) >= 40


@pytest.mark.parametrize("name", list(PROPERTIES)[PART::N_PARTS])
def test_wrong_arrays_and_options(name: str, finished: Path, tmp_path: Path):
    check_arrays(name, EXAMPLES, finished, tmp_path)


@pytest.mark.parametrize("name", list(OTHER)[PART::N_PARTS])
def test_wrong_elsewhere(name: str, tmp_path: Path):
    check_other(name, EXAMPLES, tmp_path)


class TestOddButRight:
    """The controls: what is unusual and not wrong gives the run that the usual form gives."""

    @pytest.fixture
    def usual(self, given: dict[str, Any], undrawn: None) -> Any:
        return analyze_arrays(**given).pairs()

    def test_layouts_and_dtypes(self, given: dict[str, Any], usual: Any, tmp_path: Path):
        path = tmp_path / "neurons.bin"
        given["neurons"].astype(np.float64).tofile(path)
        mapped = np.memmap(path, np.float64, "r", shape=given["neurons"].shape)
        odd = {
            "neurons": mapped, "labels": np.asfortranarray(given["labels"]).astype(np.float32),
            "docs": (given["docs"] * 7 - 300).astype(np.int16),
            "inputs": torch.tensor(given["inputs"], requires_grad=True),
            "weights": [given["weights"][0][::1], torch.tensor(given["weights"][1])],
        }  # fmt: skip
        assert analyze_arrays(**{**given, **odd}).pairs().equals(usual)

    def test_signed_zeros_and_subnormals(self, given: dict[str, Any], usual: Any):
        neurons = np.where(given["neurons"] == 0, -0.0, given["neurons"])
        neurons[neurons == 0] = -1e-42
        pairs = analyze_arrays(**{**given, "neurons": neurons}).pairs()
        # 1e-42 is far below the rounding of anything it is added to
        assert np.allclose(pairs["d_prime"], usual["d_prime"], rtol=1e-4)

    def test_names_are_text_and_never_places(self, given: dict[str, Any], usual: Any, tmp_path: Path):
        names = ["../../x", "/etc/passwd", "<script>alert(1)</script>", "∧ ☃ 日本", "a\nb\t\0", ""]
        run = analyze_arrays(**{**given, "names": names}, out=tmp_path / "run")
        assert set(run.pairs()["a"]) | set(run.pairs()["b"]) <= set(names)
        assert run.pairs()["d_prime"].equals(usual["d_prime"])
        assert {p.name for p in tmp_path.iterdir()} == {"run"}
        assert not any("etc" in str(p) or "script" in str(p) for p in (tmp_path / "run").rglob("*"))


def test_a_corpus_with_markup_shows_as_text(given: dict[str, Any], tmp_path: Path):
    """No name of a concept becomes markup of the report."""
    names = [
        "<script>alert(1)</script>",
        "</script><img src=x onerror=alert(2)>",
        "'\"><svg onload=alert(3)>",
        "a&b",
        "c",
        "d",
    ]
    run = analyze_arrays(**{**given, "names": names}, out=tmp_path / "run")
    page = (tmp_path / "run" / "report.html").read_text()
    for name in names[:3]:
        assert name not in page
    assert "&lt;script&gt;alert(1)" in page
    assert set(names[:3]) & (set(run.pairs()["a"]) | set(run.pairs()["b"]))
    for figure in (tmp_path / "run" / "figures").iterdir():
        assert "<script" not in figure.read_text()
        assert "onerror=alert(2)>" not in figure.read_text().replace("&gt;", "")
