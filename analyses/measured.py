"""What the calibration studies share: layers measured without being judged, pools of twins, lines of a result page.

The synthetic layers are those of the tests (probekit.testing.synthetic). A pool of twins measured once serves many draws: a
PC-sign twin of a PC-sign twin is one more PC-sign twin (signs multiply in one frame), so that any twin of the pool may play
the layer and any others its reference. Axes: twin pair.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from probekit.analysis.design import StudyDesign
from probekit.analysis.passes import LayerMeasure, measure_layers
from probekit.analysis.settings import DECIDING_K, Settings
from probekit.analysis.source import ArraySource
from probekit.evidence.contrast import Contrast
from probekit.evidence.decide import Decision, Tested, decide
from probekit.model.weights import MlpWeights
from probekit.storage.store import write_text
from probekit.testing.synthetic import Scene, plan

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results"
sys.path.insert(0, str(ROOT / "tests" / "evidence"))

LEVELS = (0.001, 0.01, 0.1)
"""Levels at which p-values are checked."""


def design_for(
    scene: Scene, *, twins: int, seed: int = 0, min_support: int = 30, ks: tuple[int, ...] = (DECIDING_K,)
) -> StudyDesign:
    """The study of a scene: every testable pair, no further controls, no spikes."""
    settings = Settings(
        twins=twins, seed=seed, max_pairs=100_000, min_support=min_support, twin_ks=ks, controls=(), spikes=()
    )
    return plan(scene, settings)


def measured(scene: Scene, weights: MlpWeights, design: StudyDesign) -> LayerMeasure:
    """One layer and its twins on a scene, through the passes that every run goes through."""
    source = ArraySource(weights.neurons(scene.inputs), scene.inputs, weights, design.rows)
    return next(measure_layers(source, [0], design))


def decided(measure: LayerMeasure, tested: Tested) -> Decision:
    """The decision on every pair of a layer."""
    return decide(measure.by_k[DECIDING_K], measure.twins[DECIDING_K], [], tested)


def twins_in_place(
    pool: Sequence[Contrast],
    tested: Tested,
    *,
    n_twins: int,
    rng: np.random.Generator,
) -> Iterator[Decision]:
    """The decision on each twin of the pool in the layer's place, `n_twins` others drawn as its twins.

    Args:
        pool: twins of one layer.
        tested: pairs and level.
        n_twins: size of the reference, below that of the pool.
        rng: of the references.
    """
    for index, stand_in in enumerate(pool):
        others = np.delete(np.arange(len(pool)), index)
        chosen = rng.choice(others, size=n_twins, replace=False)
        yield decide(stand_in, [pool[r] for r in chosen], [], tested)


def at_level(tested: Tested, *, fdr: str) -> Tested:
    """The same pairs under another control of the false discovery rate."""
    return replace(tested, fdr=fdr)


def mean_and_error(values: Sequence[float] | np.ndarray) -> tuple[float, float]:
    """Mean and its standard error, each value one independent draw."""
    held = np.asarray(values, float)
    error = float(held.std(ddof=1) / np.sqrt(len(held))) if len(held) > 1 else float("nan")
    return float(held.mean()), error


def table(columns: Iterable[str], rows: Iterable[Iterable[object]]) -> Iterator[str]:
    """Lines of a Markdown table."""
    names = list(columns)
    yield f"| {' | '.join(names)} |"
    yield "|" + "---|" * len(names)
    for row in rows:
        yield f"| {' | '.join(str(cell) for cell in row)} |"


def write_page(lines: Iterable[str], out: str) -> None:
    """Print a page as it comes and write it; "-" only prints."""
    torch.set_num_threads(1)
    began = time.perf_counter()
    held: list[str] = []
    for line in lines:
        held.append(line)
        print(line, flush=True)
    print(f"({time.perf_counter() - began:.0f} s)")
    if out != "-":
        write_text(Path(out), "\n".join(held).rstrip() + "\n")
