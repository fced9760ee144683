"""The benchmarks' own arithmetic, and that the pages written from their results are up to date."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks import page, peers, plan, problems, quality, timing
from benchmarks.scaling import exponent
from benchmarks.table import RESULTS, Goal

RATES = plan.Rates(forward=8e10, gemm=1e11, gram=2e11, additions=3e9, selection=5e-8)
KEPT = sorted(RESULTS.glob("*.json"))


def test_time_grows_with_what_the_formulas_say() -> None:
    small = plan.MODELS[0]
    base = plan.plan(small, 1e6, RATES)
    longer = plan.plan(small, 1e7, RATES)
    for stage in ("twins’ rows", "Gram matrices", "pair sums"):
        assert longer.seconds[stage] == pytest.approx(10 * base.seconds[stage])
    # the first 50,000 tokens are forwarded once more, whatever comes after them
    assert longer.seconds["forward"] / base.seconds["forward"] == pytest.approx(15.05 / 1.55)
    for stage in ("selection", "refit and confirm"):
        assert longer.seconds[stage] == base.seconds[stage]
    assert longer.site_bytes == base.site_bytes
    assert longer.moved_bytes == base.moved_bytes
    assert longer.avoided_bytes == 10 * base.avoided_bytes
    deeper = plan.plan(replace(small, n_layers=24), 1e6, RATES)
    assert deeper.seconds["Gram matrices"] == pytest.approx(2 * base.seconds["Gram matrices"])
    more = plan.plan(small, 1e6, RATES, n_pairs=4_000)
    assert more.seconds["selection"] == 2 * base.seconds["selection"]
    assert more.seconds["forward"] == base.seconds["forward"]
    # one token through twelve layers of 3,072 neurons and 768 inputs, 2 bytes each
    assert base.avoided_bytes == 1e6 * 12 * (3_072 + 768) * 2
    # 0.5 M tokens, 30 sites, 12 layers, 2 n² each; the input's smaller matrix beside
    assert base.seconds["Gram matrices"] == pytest.approx(30 * 12 * 5e5 * 2 * 3_072**2 / 2e11, rel=0.01)


def test_every_task_pays_for_its_forward() -> None:
    shape = plan.MODELS[0]
    n_sites = 30
    few, many = (plan.plan(shape, 1e6, RATES, n_slots=n) for n in (12, 1_000_000))
    # layers 1 to 12 of 12: 6.5 models; every site of every layer for itself: thirty times that
    one_token = 2 * shape.n_weights / RATES.forward
    one_model = (1.5e6 + 5e4) * one_token
    assert few.seconds["forward"] == pytest.approx(6.5 * one_model)
    assert many.seconds["forward"] == pytest.approx(6.5 * (n_sites * 1.5e6 + 5e4) * one_token)
    assert (few.n_busy, many.n_busy) == (12, 12 * n_sites)
    assert many.seconds["Gram matrices"] == few.seconds["Gram matrices"]
    # a narrow model is read all at once by one process, a wide one layer by layer
    assert plan.plan(shape, 1e6, RATES).seconds["forward"] == pytest.approx(6.5 * one_model)
    narrow = replace(shape, n_neurons=16)
    assert plan.plan(narrow, 1e6, RATES, n_pairs=10).seconds["forward"] == pytest.approx(one_model)


def test_a_gated_layer_has_one_site_more_and_twice_as_wide_pre_activations() -> None:
    plain = plan.plan(plan.MODELS[0], 1e6, RATES)
    gated = plan.plan(replace(plan.MODELS[0], gated=True), 1e6, RATES)
    # 30 squares become 34, 30 sites of pair sums 32 columns' worth; the input's matrix is 1/16
    squares = gated.seconds["Gram matrices"] / plain.seconds["Gram matrices"]
    assert squares == pytest.approx((34 + 1 / 16) / (30 + 1 / 16))
    assert gated.seconds["pair sums"] / plain.seconds["pair sums"] == pytest.approx(32 / 30)


def test_the_pages_are_those_of_the_kept_results() -> None:
    assert plan.PAGE.read_text(encoding="utf-8") == plan.page()
    text = page.README.read_text(encoding="utf-8")
    for path in KEPT:
        assert page.section(page.read_json(path)) in text, path.name


def test_turns_are_taken_and_rounds_counted() -> None:
    order: list[str] = []
    found = timing.in_turns(
        {"a": (lambda: order.append("a"), 2), "b": (lambda: order.append("b"), 1)}, n_rounds=3
    )
    assert order == ["a", "b"] * 4
    assert len(found["a"].seconds) == 3
    assert timing.Timed([4.0, 1.0, 2.0], 2).each == 1.0


def test_goals_and_exponents() -> None:
    assert Goal("", 2.0, 3.0).met
    assert not Goal("", 2.0, 3.0, at_most=True).met
    assert exponent([1, 2, 4], [3.0, 12.0, 48.0]) == pytest.approx(2.0)


def test_quality_measures_what_it_says() -> None:
    """A score that is the truth is perfect; the best threshold is the one that a search over all finds."""
    problem = problems.u_and(64, n_concepts=8, n_active=3, n_tokens=2_000)
    pair = 3
    rng = np.random.default_rng(0)
    truth = problem.truth(pair)
    score = truth + rng.standard_normal(len(truth))
    cut = quality.best_threshold(score, truth)
    f1 = lambda t: 2 * (truth & (score >= t)).sum() / (truth.sum() + (score >= t).sum())
    assert f1(cut) == pytest.approx(max(f1(t) for t in score))
    carriers = problem.carriers(pair)
    held = quality.Quality()
    held.add(problem, pair, carriers, np.ones(len(carriers)))
    support, weights = peers.mean_difference_logistic(problem.x, truth, 4)
    held.add(problem, pair, support, weights)
    held.add(problem, pair, support, -weights)
    assert held.found[0] == 1.0
    assert held.auc[1] > 0.9 > 0.1 > held.auc[2]


@pytest.mark.slow
@pytest.mark.parametrize("name", [*(path.stem for path in KEPT), "gpu"])
def test_every_table_can_still_be_made(name: str) -> None:
    command = [sys.executable, "-m", "benchmarks", name, "--quick"]
    found = subprocess.run(command, check=False, capture_output=True, text=True, cwd=RESULTS.parents[1])
    assert found.returncode == 0, found.stderr
    assert found.stdout.startswith("## ")
    assert "| goal |" in found.stdout or name in ("gpu", "rates", "twins")
