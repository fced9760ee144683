"""Runs side by side: what differs is said first, and nothing is a find that its own twins do not leave."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from typing import Any

import pytest
from synthetic import HOSTILE, run
from test_page import read

from probekit.errors import InputError
from probekit.report.canvas import ACCENT, GRID, INK, MUTED, PAPER, TWIN
from probekit.report.compare import TITLES, Compared, comparison_figures, differences, render_comparison

SVG = "{http://www.w3.org/2000/svg}"
SETTINGS = {"q": 0.05, "twins": 20, "max_pairs": 2000, "seed": 0}


def compared(title: str, *kinds: str, capacity: str = "vacuous", **settings: object) -> Compared:
    science = {
        "model": f"{title}@1",
        "corpus": "docs",
        "concepts": "default",
        "settings": {**SETTINGS, **settings},
    }
    return Compared(title, run(kinds, capacity, title)[0], science)


@pytest.fixture(scope="module")
def page() -> str:
    return render_comparison([compared("early", "none", "none"), compared("late", "none", "finds")])


def answer(text: str) -> str:
    return re.sub(r"<[^>]+>", "", text.split('<dl class="answer">')[1].split("</dl>", maxsplit=1)[0])


def test_the_page_is_whole_and_loads_nothing(page: str) -> None:
    reader = read(page)
    assert len(set(reader.ids)) == len(reader.ids)
    for tag, attributes in reader.elements:
        assert tag not in {"link", "iframe", "object", "embed", "img", "base"}
        assert "src" not in attributes
    assert [tag for tag, _ in reader.elements].count("script") == 1, "the meanings of words only"
    assert page.count("<figure>") == len(TITLES)


def test_only_the_run_with_a_find_has_one(page: str) -> None:
    assert (
        "Pairs beyond what null layers may give stand in late (layer 1); in the other nothing stood out."
        in answer(page)
    )
    nothing = answer(render_comparison([compared("a", "none"), compared("b", "doubtful")]))
    assert "In none of them does a layer show more pairs than its null layers may" in nothing


def test_the_same_settings_may_be_compared_and_others_are_named(page: str) -> None:
    assert "Text, concepts and settings are the same in all runs" in answer(page)
    other = answer(render_comparison([compared("a", "none"), compared("b", "none", max_pairs=9, seed=1)]))
    assert "The runs differ in setting max_pairs and setting seed as well" in other


def test_differences_hold_what_differs_and_nothing_else() -> None:
    runs = [compared("a", "none"), compared("b", "none", twins=8)]
    assert differences(runs) == {"model": ["a@1", "b@1"], "setting twins": ["20", "8"]}
    assert "Nothing but the runs themselves" in render_comparison(
        [compared("a", "none"), Compared("again", runs[0].summary, runs[0].science)]
    )


def test_digests_are_cut_short_where_they_can_still_be_told_apart() -> None:
    runs = [compared(name, "none") for name in ("a", "b")]
    digests = "0123456789abcdef" * 2, "f123456789abcdef" * 2
    for one, digest in zip(runs, digests, strict=True):
        one.summary["corpus"]["fingerprint"] = digest
    assert differences(runs)["tokens of the text"] == ["01234567…", "f1234567…"]
    runs[1].summary["corpus"]["fingerprint"] = "0123456789abcdef" + "0" * 16
    assert differences(runs)["tokens of the text"][0] == digests[0]


def test_figures_show_every_layer_and_only_palette_colours() -> None:
    drawn = comparison_figures([compared("early", "none", "none"), compared("late", "finds")])
    assert set(drawn) == set(TITLES)
    allowed = {ACCENT, GRID, INK, MUTED, PAPER, TWIN, "none", "transparent"}
    for svg in drawn.values():
        root = ElementTree.fromstring(svg)
        texts = [element.text for element in root.iter(f"{SVG}text")]
        assert [text for text in texts if text in ("early · layer 0", "early · layer 1", "late")]
        for element in [child for child in root.iter() if child is not root]:
            assert {element.get("fill", "none"), element.get("stroke", "none")} <= allowed
        assert "28 of 1\u202f140 pairs computed" in (root.findtext(f"{SVG}desc") or "")


def test_what_was_not_measured_is_left_out() -> None:
    bare = compared("bare", "none")
    row: Any = bare.summary["layers"][0]
    row |= dict.fromkeys(
        (
            "twins",
            "tails",
            "effect",
            "n_beyond_linear",
            "n_above_plain",
            "n_relayed",
            "n_above_twins",
            "n_computed",
        )
    )
    row |= dict.fromkeys(("excess_low", "excess_high", "n_excess", "twin_rate")) | {"n_twins": 0}
    text = render_comparison([bare, compared("whole", "none")])
    read(text)
    assert "None" not in re.sub(r"<style>.*?</style>", "", text, flags=re.S)


def test_hostile_titles_are_text() -> None:
    text = render_comparison([compared(HOSTILE, "none"), compared("b", "none", seed=HOSTILE)])
    assert HOSTILE not in text
    assert len([element for element in read(text).elements if element[0] == "script"]) == 1


@pytest.mark.parametrize("titles", [(), ("a",), ("a", "a")])
def test_runs_that_cannot_be_told_apart_are_refused(titles: tuple[str, ...]) -> None:
    with pytest.raises(InputError, match="wanted two or more, each with a title of its own"):
        render_comparison([compared(title, "none") for title in titles])
