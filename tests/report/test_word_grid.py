"""The page of a word grid is whole, escapes what it is given, and says no more than the tables do."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from synthetic import HOSTILE
from test_page import read

from probekit.evidence.word_grid import SITES, TWIN_SITES
from probekit.report.canvas import ACCENT, GRID, INK, MUTED, PAPER, TWIN
from probekit.report.word_grid import (
    TITLES,
    answer,
    layers_table,
    render_word_grid,
    summary_html,
    word_grid_figures,
)

SVG = "{http://www.w3.org/2000/svg}"
N_TWINS = 4


def grid(*adds: bool, twins: bool = True, arms: bool = True, stream: bool = True) -> Any:
    """A result with as many layers; the ones named stand out."""
    rng = np.random.default_rng(0)
    sites, twin_rows, arm_rows, layers = [], [], [], []
    for layer, out in enumerate(adds):
        row: dict[str, Any] = {"layer": layer}
        for site in SITES:
            kept = stream or site != "before"
            row[f"z_{site}"] = (8.0 if out else 0.5) if kept else np.nan
            row[f"p_{site}"] = (1 / 2001 if out else 0.4) if kept else np.nan
            for name in ("A", "B") if kept else ():
                sites.append(
                    {
                        "layer": layer,
                        "site": site,
                        "words": name,
                        "effect": 1.0,
                        "z": row[f"z_{site}"] + (0.2 if name == "A" else -0.2),
                        "p": row[f"p_{site}"],
                        "d_prime": 1.5,
                        "auc": 0.8,
                        "d_prime_canonical": 1.4,
                    }
                )
        for site in TWIN_SITES if twins else ():
            for kind in ("plain", "relay"):
                for name in ("A", "B"):
                    twin_rows += [
                        {
                            "layer": layer,
                            "site": site,
                            "words": name,
                            "kind": kind,
                            "twin": t,
                            "z": float(rng.normal()),
                            "d_prime": 0.9,
                        }
                        for t in range(N_TWINS)
                    ]
        for site in SITES if arms else ():
            for arm in ("rare", "matched", "phrases"):
                arm_rows.append(
                    {
                        "layer": layer,
                        "site": site,
                        "arm": arm,
                        "n_pairs": 20,
                        "effect": 0.5,
                        "z": 3.0,
                        "p": 0.002,
                        "d_prime": 1.0,
                        "auc": 0.7,
                        "relative": 0.5 if out else np.nan,
                        "p_words_above": 0.01,
                    }
                )
        row |= {
            "margin_plain": 6.0 if out else -1.0,
            "margin_relay": 5.0 if out else -1.0,
            "p_plain": 0.001 if out else 0.7,
            "p_relay": 0.002 if out else 0.6,
            "p_layer": 0.002 if out else 0.7,
            "d_before": 1.2 if stream else np.nan,
            "d_after": 1.6,
            "d_after_twins": 1.1,
            "p_holm": 0.01 if out else 1.0,
            "adds": out if twins else None,
        }
        layers.append(row)
    pseudo = pd.DataFrame(
        {"layer": 0, "site": site, "words": "A", "draw": d, "z": 0.0, "p": 0.01 if d == 0 else 0.5}
        for site in SITES
        for d in range(20)
    )
    words = pd.DataFrame(
        {
            "group": group,
            "text": f" {HOSTILE}",
            "prefix": f" {HOSTILE}",
            "suffix": "x\ny",
            "n": 5,
            "n_docs": 4,
        }
        for group in ("A", "B", *(("rare", "matched", "phrases") if arms else ()))
        for _ in range(2)
    )
    summary = {
        "model": {
            "name": HOSTILE,
            "n_layers": 12,
            "d_model": 8,
            "d_mlp": 3072,
            "activation": "gelu",
            "gated": False,
        },
        "corpus": {"name": "docs", "n_tokens": 2_000_000},
        "layers": list(range(len(adds))),
        "groups": {"A": 72, "B": 72},
        "canonical_crosses": {"A": 0.9, "B": 0.85},
        "words_by_rule": True,
        "settings": {
            "n_contexts": 6,
            "twins": N_TWINS if twins else 0,
            "relay": 8,
            "permutations": 2000,
            "seed": 0,
        },
        "smallest_p": 1 / 2001,
        "level": 0.05,
        "notes": [f"a note on {HOSTILE}"],
    }
    frames = {
        "layers": pd.DataFrame(layers),
        "sites": pd.DataFrame(sites),
        "twins": pd.DataFrame(twin_rows),
        "arms": pd.DataFrame(arm_rows),
        "pseudo": pseudo,
        "words": words,
    }
    return SimpleNamespace(**frames, contexts=("Return the", HOSTILE), summary=summary)


def told(text: str) -> str:
    return re.sub(r"<[^>]+>", "", text.split('<dl class="answer">')[1].split("</dl>", maxsplit=1)[0])


@pytest.fixture(scope="module")
def page() -> str:
    return render_word_grid(grid(False, True, True))


def test_the_page_is_whole_and_loads_nothing(page: str):
    reader = read(page)
    assert len(set(reader.ids)) == len(reader.ids)
    for tag, attributes in reader.elements:
        assert tag not in {"link", "iframe", "object", "embed", "img", "base"}
        assert "src" not in attributes
    assert page.count("<figure>") == len(TITLES)
    assert HOSTILE not in page, "everything from a corpus is escaped"
    assert page == render_word_grid(grid(False, True, True)), "same input, same bytes"


def test_the_answer_names_the_layers_that_add_and_no_others(page: str):
    assert "Layers 1 and 2 add to it" in told(page)
    assert "the input knows the words in layers 1 and 2" in told(page)
    one = answer(grid(True, False))[1]
    assert one.startswith("Layer 0 adds to it")
    none = answer(grid(False, False))[1]
    assert none == "No layer adds to it what its twins do not add as well; no input knows the words."
    bare = answer(grid(True, False, twins=False))[1]
    assert bare.startswith("Without twins nothing is said about computation")
    assert "in layer 0." in bare


def test_the_limit_gives_the_arms_or_says_that_they_lack(page: str):
    assert "in the median of layers 1 and 2 at the MLP output given the input: rare words 0.50" in told(page)
    assert "without the arms nothing tells the two apart" in answer(grid(True, arms=False))[2]


def test_figures_need_no_twins_arms_or_stream():
    drawn = word_grid_figures(grid(False, True, twins=False, arms=False))
    assert set(drawn) == {"grid", "stream"}
    assert "arms" not in word_grid_figures(grid(True, arms=False))
    text = render_word_grid(grid(True, False, stream=False))
    assert "–" in text
    allowed = {ACCENT, GRID, INK, MUTED, PAPER, TWIN, "none", "transparent"}
    for svg in word_grid_figures(grid(False, True)).values():
        root = ElementTree.fromstring(svg)
        for element in [child for child in root.iter() if child is not root]:
            assert {element.get("fill", "none"), element.get("stroke", "none")} <= allowed
        assert root.find(f"{SVG}title") is not None


def test_the_chart_draws_what_the_table_holds():
    from probekit.report.word_grid import grid_chart

    frame = pd.DataFrame(next(iter(grid_chart(grid(False, True)).to_dict()["datasets"].values())))
    given = frame[frame["panel"] == SITES["given"]].set_index("layer")
    assert given["z"].tolist() == [0.5, 8.0]
    assert (given["plain_low"] <= given["plain_mean"]).all()
    assert (given["plain_mean"] <= given["plain_high"]).all()
    assert frame[frame["panel"] == SITES["input"]]["plain_high"].isna().all(), (
        "a twin has the layer's own input"
    )
    rows = layers_table(grid(False, True)).rows
    assert [row[-1] for row in rows] == ["no", "yes"]
    assert rows[1][4].startswith("8.0\n")
    assert layers_table(grid(True, twins=False)).rows[0][-1] == "–"


def test_a_notebook_shows_the_answer_and_the_chart():
    shown = summary_html(grid(False, True))
    assert "Layer 1 adds to it" in shown
    assert "<svg" in shown
    assert HOSTILE not in shown
