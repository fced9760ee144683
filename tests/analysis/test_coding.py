"""A concept and its complement: one interaction under two names, and the report says so."""

from __future__ import annotations

from typing import Any

import numpy as np

import probekit as pk
from probekit.analysis.design import complements
from probekit.probes.pairs import LabelColumns


def test_complements_are_found_and_nothing_else() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        labels = rng.random((200, 9)) < rng.random(9)
        labels[:, 4] = ~labels[:, 1]
        labels[:, 7] = np.roll(~labels[:, 2], 1)  # as many tokens, others
        labels[:, 8], labels[:, 0] = True, False
        wanted = [
            (a, b) for a in range(9) for b in range(a + 1, 9) if np.array_equal(labels[:, a], ~labels[:, b])
        ]
        assert (1, 4) in wanted
        assert (0, 8) in wanted
        assert sorted(complements(LabelColumns.from_dense(labels))) == wanted
    assert complements(LabelColumns.from_dense(np.eye(5, dtype=bool))) == []


def test_the_report_says_what_hangs_on_the_coding(arrays: Any) -> None:
    neurons, labels, docs, _, _ = arrays
    options: dict[str, Any] = {"twins": 0, "max_pairs": 60, "spikes": (), "progress": False}
    both = np.concatenate([labels, ~labels[:, :1]], 1)
    names = [*(f"c{i}" for i in range(8)), "not c0"]
    run = pk.analyze_arrays(neurons, both, docs, names=names, **options)
    (note,) = [note for note in run.summary["notes"] if "differ by C alone" in note]
    assert note.startswith("'not c0' holds exactly where 'c0' does not. ")
    assert "differ between the two codings" in (run.path / "report.html").read_text()
    # what it says is so: the same neurons under either name, and other d′
    by_pair = {frozenset((row["a"], row["b"])): row for row in run.pairs().to_dict("records")}
    codings = [
        (by_pair[frozenset(("c0", other))], by_pair[frozenset(("not c0", other))])
        for other in names[1:8]
        if frozenset(("c0", other)) in by_pair and frozenset(("not c0", other)) in by_pair
    ]
    assert len(codings) >= 3
    assert all(list(one["neurons"]) == list(two["neurons"]) for one, two in codings)
    assert any(abs(one["d_prime"] / two["d_prime"] - 1) > 0.05 for one, two in codings)
    # the control: without the complement there is nothing to say
    plain = pk.analyze_arrays(neurons, labels, docs, **options)
    assert not [note for note in plain.summary["notes"] if "differ by C alone" in note]
