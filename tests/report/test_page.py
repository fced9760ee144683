"""One file that loads nothing, shows hostile text as text, and has the same bytes for the same input."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from itertools import pairwise

import pandas as pd
import pytest
from synthetic import HOSTILE, examples, provenance, run

from probekit.errors import ShapeError
from probekit.evidence.tables import PAIR_COLUMNS
from probekit.report.charts import TITLES
from probekit.report.page import Companion, render_page

VOID = {"meta", "br", "hr", "img", "input", "link", "col", "wbr"}


class Reader(HTMLParser):
    """Collects elements, checks that they nest, keeps headings and the text of each element kind."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.ids: list[str] = []
        self.text: dict[str, list[str]] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self.ids += [value for name, value in attrs if name == "id" and value]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self.ids += [value for name, value in attrs if name == "id" and value]

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open:
            self.text.setdefault(self.open[-1], []).append(data)


def read(text: str) -> Reader:
    reader = Reader()
    reader.feed(text)
    reader.close()
    assert reader.open == []
    return reader


@pytest.fixture(scope="module")
def page() -> str:
    return render_page(
        *run(),
        paths=None,
        examples=examples(),
        provenance=provenance(),
        companions=[Companion("a planted circuit", *run(("finds",), "binds", "planted"))],
    )


def test_it_parses_and_nests(page: str) -> None:
    assert page.lstrip().startswith("<!DOCTYPE html>")
    read(page)


def test_nothing_is_loaded_from_anywhere(page: str) -> None:
    for tag, attributes in read(page).elements:
        assert tag not in {"link", "iframe", "object", "embed", "img", "base"}
        assert "src" not in attributes
        target = attributes.get("href") or attributes.get("xlink:href")
        if target is not None and not target.startswith("#"):
            assert tag == "a"
            assert target.startswith("https://arxiv.org/abs/")
    style = re.search(r"<style>(.*?)</style>", page, re.S)
    assert style is not None
    assert "url(" not in style[1]
    assert "@import" not in style[1]


def test_hostile_text_is_shown_as_text(page: str) -> None:
    reader = read(page)
    scripts = [text for text in reader.text["script"] if text.strip()]
    assert len(scripts) == 2, "the page's own scripts only"
    assert not any("alert" in script for script in scripts)
    assert HOSTILE in reader.text["mark"]
    assert HOSTILE in reader.text["th"]
    assert any(" <b>of</b>" in text for text in reader.text["span"])


def test_hostile_names_everywhere_else_are_escaped_too() -> None:
    summary, layers, pairs = run(("finds",), name=HOSTILE)
    summary["corpus"]["name"] = HOSTILE
    summary["layers"][0]["statement"] = HOSTILE
    summary["layers"][0]["groups"][0]["kind"] = HOSTILE
    summary["concepts"]["untestable"] = {HOSTILE: 3}
    hostile = {"command": HOSTILE, "settings": {HOSTILE: HOSTILE}, "versions": {}, "fingerprints": {}}
    text = render_page(
        summary,
        layers,
        pairs,
        provenance=hostile,
        companions=[Companion(HOSTILE, *run(("none",), name=HOSTILE))],
    )
    assert HOSTILE not in text
    assert len([element for element in read(text).elements if element[0] == "script"]) == 2


def test_headings_come_in_order(page: str) -> None:
    levels = [int(tag[1]) for tag, _ in read(page).elements if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))


def test_ids_are_unique_and_every_reference_has_its_target(page: str) -> None:
    reader = read(page)
    assert len(set(reader.ids)) == len(reader.ids)
    for _, attributes in reader.elements:
        named = [
            (attributes.get("href") or "#").removeprefix("#"),
            *(attributes.get("aria-labelledby") or "").split(),
        ]
        for target in named:
            assert target in reader.ids or target == "" or target.startswith("https://")


def test_every_figure_has_words_and_numbers_behind_it(page: str) -> None:
    for figure in re.findall(r"<figure>.*?</figure>\s*<details.*?</details>", page, re.S):
        assert re.search(r"<svg [^>]*role=\"img\" aria-labelledby=", figure)
        assert re.search(
            r"<title id=\"[^\"]+\">[^<]{10,}</title><desc id=\"[^\"]+\">[^<]{40,}</desc>", figure
        )
        caption = re.search(r"<figcaption>(.*?)</figcaption>", figure, re.S)
        assert caption is not None
        assert len(re.sub(r"<[^>]+>", "", caption[1])) >= 40
        assert "<table" in figure
    # every figure of the run, the first picture among them, and the companion's ladder
    assert page.count("<figure>") + page.count('<figure class="overview">') == len(TITLES) + 1


def test_same_input_same_bytes() -> None:
    first, second = (render_page(*run(), examples=examples(), provenance=provenance()) for _ in range(2))
    assert first == second


def test_a_run_without_finds_calls_nothing_a_find() -> None:
    text = render_page(*run(("none", "none")), provenance=provenance())
    assert "No pair stands out in this run." in text
    assert text.count("these came nearest and are not finds") == 2


@pytest.mark.sweep
def test_a_companion_shows_a_find_only_where_it_has_one() -> None:
    base = run(("none",))
    assert "What a find looks like: plant" in render_page(
        *base, companions=[Companion("plant", *run(("finds",)))]
    )
    assert "What a find looks like" not in render_page(
        *base, companions=[Companion("plant", *run(("doubtful",)))]
    )


def test_what_was_not_measured_is_a_dash_and_never_a_zero() -> None:
    summary, layers, pairs = run(("finds",))
    row = summary["layers"][0]
    row |= dict.fromkeys(("n_represented", "n_superposed", "groups", "tails", "effect", "twins", "twin_rate"))
    row |= dict.fromkeys(("n_excess", "excess_low", "excess_high", "statement", "n_distributed"))
    del summary["concepts"]["untestable"]
    text = render_page(summary, layers, pairs)
    read(text)
    assert "The pairs were not grouped in this run." in text
    assert "The tails of the p-values were not recorded in this run." in text
    assert ">None<" not in text
    assert "nan" not in re.sub(r"<(style|script)>.*?</\1>", "", text, flags=re.S).lower().split()


@pytest.mark.sweep
def test_other_k_come_from_the_layer_rows_or_from_the_paths() -> None:
    summary, layers, pairs = run(("finds",))
    other = pd.concat([pairs[0].assign(k=k, above_twins=k == 64) for k in (1, 64)], ignore_index=True)
    text = render_page(summary, layers, pairs, paths={0: other})
    assert re.search(r"<td>all</td><td>balanced</td><td class=\"n\">150</td><td class=\"n\">28</td>", text)
    summary["layers"][0]["by_k"] = None
    text = render_page(summary, layers, pairs, paths={0: other})
    assert re.search(r"<th scope=\"row\">0</th><td class=\"n\">64</td><td class=\"n\">1\u202f140</td>", text)


def test_flags_that_could_not_be_decided_hold_of_no_pair() -> None:
    summary, layers, pairs = run(("none",))
    unknown = ("above_twins", "computed", "superposed")
    table = pairs[0].assign(**{flag: pd.array([pd.NA] * len(pairs[0]), dtype="boolean") for flag in unknown})
    summary["layers"][0] |= {"n_twins": 0, "n_computed": None, "n_superposed": None, "twins": None}
    text = render_page(summary, layers, {0: table}, examples=[])
    cells = read(text).text["td"]
    assert not any(cell.startswith("computed") for cell in cells)
    assert "<NA>" not in cells
    assert "which of these pairs is computed was not decided" in text
    assert "No pair stands out" not in text


def test_the_synthetic_pairs_follow_the_schema() -> None:
    assert tuple(run(("none",))[2][0].columns) == PAIR_COLUMNS


def test_layers_that_disagree_are_refused() -> None:
    summary, layers, pairs = run()
    with pytest.raises(ShapeError, match=r"summary has layers \[0, 1, 2\], the layers table has \[0, 1\]"):
        render_page(summary, layers.iloc[:2], pairs)


@pytest.mark.sweep
def test_a_big_run_stays_a_small_file() -> None:
    kinds = ("none", "finds", "doubtful") * 4
    summary, layers, pairs = run(kinds)
    big = {layer: pd.concat([table] * 4, ignore_index=True) for layer, table in pairs.items()}
    text = render_page(summary, layers, big, examples=examples() * 6, provenance=provenance())
    assert sum(len(table) for table in big.values()) > 50_000
    assert len(text.encode()) < 2_000_000  # 5 MB is the promise; the page grows with layers, not with pairs
