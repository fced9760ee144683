"""How good a readout is on tokens it was not fitted on: the same measure for every method."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from sklearn.metrics import f1_score, roc_auc_score

from benchmarks.problems import Problem


def best_threshold(score: np.ndarray, truth: np.ndarray) -> float:
    """The threshold of the best F1 on the tokens fitted on."""
    order = np.argsort(-score, kind="stable")
    hits = np.cumsum(truth[order])
    f1 = 2 * hits / (np.arange(1, len(score) + 1) + truth.sum())
    return float(score[order[int(f1.argmax())]])


@dataclass
class Quality:
    """Held-out quality of one method over some pairs."""

    auc: list[float] = field(default_factory=list)
    f1: list[float] = field(default_factory=list)
    found: list[float] = field(default_factory=list)
    """Share of a pair's carriers that are in the support, where carriers are known."""

    def add(self, problem: Problem, pair: int, support: np.ndarray, weights: np.ndarray) -> None:
        """Judge weights·x[support]; the threshold comes from the tokens fitted on."""
        support, weights = np.asarray(support)[: len(weights)], np.asarray(weights)
        kept = support >= 0
        support, weights = support[kept], weights[kept]
        scores = [x[:, support] @ weights for x in (problem.x, problem.x_test)]
        truth = [problem.truth(pair), problem.truth(pair, test=True)]
        threshold = best_threshold(scores[0], truth[0])
        self.auc.append(float(roc_auc_score(truth[1], scores[1])))
        self.f1.append(float(f1_score(truth[1], scores[1] >= threshold)))
        if problem.reads is not None:
            carriers = problem.carriers(pair)
            self.found.append(float(np.isin(carriers, support).sum() / min(len(carriers), len(support))))

    def cells(self) -> list[float | str]:
        """AUC, F1 and recovery, as a table shows them."""
        found = round(float(np.mean(self.found)), 3) if self.found else "–"
        return [round(float(np.mean(self.auc)), 4), round(float(np.mean(self.f1)), 3), found]
