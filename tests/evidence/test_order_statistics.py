"""The compiled order statistics against NumPy's."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from probekit.evidence.order_statistics import kth_smallest

VALUES = hnp.arrays(np.float64, st.integers(1, 40), elements=st.floats(-1e6, 1e6, allow_nan=False, width=32))
kth_smallest(np.ones(1), 0)  # compiled now, or the first example would be late


@given(values=VALUES, data=st.data())
def test_kth_smallest_is_what_sorting_puts_there(values: np.ndarray, data: st.DataObject) -> None:
    k = data.draw(st.integers(0, len(values) - 1))
    held = values.copy()
    assert kth_smallest(held, k) == np.sort(values)[k]
    assert np.array_equal(np.sort(held), np.sort(values)), "a reordering loses nothing"
    assert (held[:k] <= held[k]).all()
    assert (held[k:] >= held[k]).all()


def test_sorted_reversed_and_equal_values_end() -> None:
    for values in (np.arange(1000.0), np.arange(1000.0)[::-1].copy(), np.ones(1000)):
        assert kth_smallest(values.copy(), 700) == np.sort(values)[700]
