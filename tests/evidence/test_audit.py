"""The capacity audit against pk.bounds, and when the bound can say something."""

from __future__ import annotations

import itertools
import math

import pytest

from probekit.evidence.audit import ASSUMED_BITS, SENSITIVITY_BITS, SENSITIVITY_DELTAS, audit
from probekit.theory import bounds


def test_references_are_those_of_bounds() -> None:
    n = 512
    held = audit(n_neurons=n, n_params=n * 65, bits_stored=16.0, n_tested=2_000, excess_low=60.4)
    # n²/ln n and n²/log2 n by hand, double precision
    assert held["n2_over_ln_n"] == pytest.approx(n**2 / math.log(n), rel=1e-12)
    assert held["n2_over_log2_n"] == pytest.approx(n**2 / 9, rel=1e-12)
    assert held["bits_needed"] == float(bounds.bits_needed(2_000, 60))
    assert held["bits_needed"] == pytest.approx(math.log2(math.comb(2_000, 60)), rel=1e-9)
    assert held["bits_held"] == n * 65 * ASSUMED_BITS
    assert held["min_neurons"] == float(bounds.min_neurons(60))
    assert held["min_params"] == float(bounds.min_params(60))
    assert held["universe"] == 2_000
    assert held["bits_stored"] == 16
    assert set(held) >= {"n2_over_ln_n", "n2_over_log2_n", "max_selected", "bits_per_param", "n_params",
                                   "vacuous", "cannot_bind"}  # fmt: skip


def test_few_pairs_make_the_bound_vacuous_and_it_cannot_bind() -> None:
    # no set of 2,000 pairs takes more than 2,000 bits to name; 512 · 65 · 2 are at hand
    held = audit(n_neurons=512, n_params=512 * 65, bits_stored=16.0, n_tested=2_000, excess_low=60.0)
    assert held["vacuous"]
    assert held["cannot_bind"]
    assert held["max_selected"] is None
    assert held["max_selected_stored"] is None


def test_a_narrow_layer_with_many_pairs_is_bounded() -> None:
    n, n_params, n_tested = 16, 64, 4_000
    held = audit(n_neurons=n, n_params=n_params, bits_stored=32.0, n_tested=n_tested, excess_low=10.0)
    assert not held["vacuous"]
    assert n_tested > held["n2_over_ln_n"]
    assert not held["cannot_bind"]
    assert held["max_selected"] == float(
        bounds.max_selected(n_universe=n_tested, n_params=n_params, bits=ASSUMED_BITS)
    )
    # the bound is the largest count that its bits can name
    m = int(held["max_selected"])
    assert (
        math.log2(math.comb(n_tested, m)) <= n_params * ASSUMED_BITS < math.log2(math.comb(n_tested, m + 1))
    )
    stored = bounds.max_selected(n_universe=n_tested, n_params=n_params, bits=32.0)
    assert held["max_selected_stored"] == (None if stored.vacuous else float(stored))


def test_fewer_pairs_than_the_reference_cannot_bind_though_bits_do() -> None:
    n = 512
    held = audit(n_neurons=n, n_params=100, bits_stored=32.0, n_tested=2_000, excess_low=0.0)
    assert not held["vacuous"]
    assert held["n2_over_ln_n"] > 2_000
    assert held["cannot_bind"]


@pytest.mark.parametrize("excess_low", [-5.0, 0.0, 0.9])
def test_no_excess_needs_no_bits(excess_low: float) -> None:
    held = audit(n_neurons=64, n_params=64 * 9, bits_stored=32.0, n_tested=500, excess_low=excess_low)
    assert held["bits_needed"] == 0.0
    assert held["min_neurons"] == 0.0
    assert held["min_params"] == 0.0


def test_an_excess_beyond_all_pairs_is_all_pairs() -> None:
    held = audit(n_neurons=64, n_params=64 * 9, bits_stored=32.0, n_tested=500, excess_low=1e9)
    assert held["bits_needed"] == pytest.approx(0.0, abs=1e-9)  # naming all of them takes no bit


def test_the_verdict_under_other_assumptions() -> None:
    # 2,336 bits at b = 2 against 2,556 pairs: the bound binds at b = 1 and 2 and not at 16
    held = audit(n_neurons=16, n_params=1_168, bits_stored=32.0, n_tested=2_556, excess_low=300.0)
    rows = {(row["bits"], row["delta"]): row for row in held["by_assumption"]}
    assert set(rows) == set(itertools.product(SENSITIVITY_BITS, SENSITIVITY_DELTAS))
    assert rows[2.0, 0.0]["max_selected"] == held["max_selected"]
    assert rows[2.0, 0.0]["verdict"] == "holds"
    assert rows[16.0, 0.0]["verdict"] == "vacuous"
    # 300 of 2,556 take 1,330 bits, and 1,168 weights of one bit hold 1,168: exceeded
    assert rows[1.0, 0.0]["bits_needed"] == pytest.approx(math.log2(math.comb(2_556, 300)), rel=1e-9)
    assert rows[1.0, 0.0]["verdict"] == "exceeded"
    # more tolerance leaves fewer bits to be held, and more that may be selected
    assert rows[1.0, 0.2]["bits_needed"] < rows[1.0, 0.05]["bits_needed"] < rows[1.0, 0.0]["bits_needed"]
    most = [row["max_selected"] or held["universe"] for row in (rows[1.0, d] for d in SENSITIVITY_DELTAS)]
    assert most == sorted(most)
