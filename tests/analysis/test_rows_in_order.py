"""What pairs its rows by their places is told the order, or refuses: data frames, sets, masked arrays, sorted masks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

import probekit as pk
from probekit.analysis.array_inputs import ActivationData
from probekit.errors import InputError, require_order
from probekit.results.pair_selection import chosen

N = 60


@pytest.fixture
def frames() -> dict[str, Any]:
    """Neurons, labels and documents as data frames with a row a token."""
    rng = np.random.default_rng(0)
    rows = [f"token {place}" for place in range(N)]
    return {
        "neurons": pd.DataFrame(rng.standard_normal((N, 4)), rows),
        "labels": pd.DataFrame(rng.random((N, 3)) < 0.5, rows, ["a", "b", "c"]),
        "docs": pd.Series(np.repeat(np.arange(6), 10), rows),
    }


def check(given: dict[str, Any], **more: Any) -> ActivationData:
    options: dict[str, Any] = {
        "inputs": None,
        "weights": None,
        "activation": "relu",
        "names": None,
        **given,
        **more,
    }
    return ActivationData.check(**options)


class TestDataFrames:
    @pytest.mark.parametrize("which", ["neurons", "labels"])
    def test_in_another_order(self, which: str, frames: dict[str, Any]) -> None:
        shuffled = frames | {which: frames[which].sample(frac=1, random_state=0)}
        with pytest.raises(InputError, match=r"the rows of its data frame are those of \w+ in another order"):
            check(shuffled)

    def test_in_one_order(self, frames: dict[str, Any]) -> None:
        held = check(frames)
        assert (held.labels == frames["labels"].to_numpy()).all()
        order = np.random.default_rng(1).permutation(10)  # within the first document
        at = np.concatenate([order, np.arange(10, N)])
        again = check({name: frame.iloc[at] for name, frame in frames.items()})
        assert (again.labels == held.labels[at]).all()

    def test_rows_that_bear_other_names(self, frames: dict[str, Any]) -> None:
        """Nothing is known of their order then, and places are what there is."""
        plain = frames | {"labels": frames["labels"].reset_index(drop=True)}
        assert (check(plain).labels == frames["labels"].to_numpy()).all()


class TestMaskedArrays:
    @pytest.mark.parametrize("which", ["neurons", "labels", "docs"])
    def test_what_hides_entries(self, which: str, frames: dict[str, Any]) -> None:
        values = frames[which].to_numpy()
        hidden = np.ma.masked_array(values, mask=np.zeros(values.shape, bool))
        assert check(frames | {which: hidden}).labels.shape == (N, 3), "control: nothing is hidden"
        hidden[3] = np.ma.masked
        with pytest.raises(InputError, match=rf"{which}: got a masked array that hides [14]? ?.*of"):
            check(frames | {which: hidden})

    def test_ids(self) -> None:
        hidden = np.ma.masked_array(np.ones((2, 5), int), mask=np.array([[0, 0, 0, 1, 1]] * 2, bool))
        with pytest.raises(InputError, match="from_tokens: got a masked array that hides 4 of 10 entries"):
            pk.Corpus.from_tokens(hidden)
        filled: Any = pk.Corpus.from_tokens(hidden.filled(-1)).given
        assert (filled < 0).sum() == 4


class TestSets:
    """The entries of a set stand in another order in each process."""

    REFUSED = r"got .*set"  # in the tests the type checker is first to say so

    def test_names(self, frames: dict[str, Any]) -> None:
        options: dict[str, Any] = frames | {"min_support": 2, "twins": 0, "progress": False}
        with pytest.raises(InputError, match=f"names: {self.REFUSED}"):
            pk.analyze_arrays(**options, names={"x", "y", "z"})

    def test_texts(self) -> None:
        with pytest.raises(InputError, match=f"texts: {self.REFUSED}"):
            pk.Corpus.from_texts(frozenset({"one", "two"}))  # type: ignore[arg-type]

    @pytest.mark.parametrize("which", ["runs", "names"])
    def test_runs(self, which: str, tmp_path: Any) -> None:
        given: dict[str, Any] = {"runs": ["one", "two"], "names": ["one", "two"]}
        given[which] = set(given[which])
        with pytest.raises(InputError, match=f"{which}: {self.REFUSED}"):
            pk.compare(given["runs"], tmp_path / "page.html", names=given["names"])

    @pytest.mark.parametrize("values", [{"a", "b"}, frozenset({"a", "b"})])
    def test_what_has_no_order(self, values: Any) -> None:
        with pytest.raises(
            InputError, match=r"names: got a (frozen)?set, whose entries have no order; wanted a list"
        ):
            require_order(values, "names")
        for ordered in (["a", "b"], ("a", "b"), {"a": 0, "b": 0}, {"a": 0}.keys(), None):
            require_order(ordered, "names")


class TestSortedMasks:
    """`table.sort_values("q")["q"] < 0.05` says in its index which row each flag is of."""

    @pytest.fixture
    def table(self) -> pd.DataFrame:
        return pd.DataFrame(
            {"a": list("abcd"), "b": list("efgh"), "kind": "user × user", "q": [0.9, 0.01, 0.8, 0.02]}
        )

    def test_of_a_sorted_table(self, table: pd.DataFrame) -> None:
        wanted = [False, True, False, True]
        assert chosen(table, table["q"] < 0.05).tolist() == wanted
        assert chosen(table, table.sort_values("q")["q"] < 0.05).tolist() == wanted
        assert chosen(table, (table["q"] < 0.05).to_numpy()).tolist() == wanted

    @pytest.mark.parametrize("sort", [False, True])
    def test_of_several_layers(self, sort: bool, table: pd.DataFrame) -> None:
        """Rows 4 to 7 of eight: all rows, and those of the layer under their numbers among all."""
        every = pd.concat([table.assign(q=1.0), table], ignore_index=True)
        every = every.sort_values("q") if sort else every
        layer = every[every.index >= 4]
        for mask in (every["q"] < 0.05, layer["q"] < 0.05):
            assert chosen(table, mask, 4, 8).tolist() == [False, True, False, True]

    def test_of_other_rows(self, table: pd.DataFrame) -> None:
        named = (table["q"] < 0.05).set_axis(list("wxyz"))
        with pytest.raises(InputError, match="at_least: the mask's index names other rows"):
            chosen(table, named)
        with pytest.raises(InputError, match="at_least: the mask's index names other rows"):
            chosen(table, (table["q"] < 0.05).set_axis([5, 6, 7, 8]), 4, 8)
