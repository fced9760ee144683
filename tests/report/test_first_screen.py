"""The first screen: a headline, one picture, one pair in language, the floor; all else folded; every symbol explained."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from synthetic import HOSTILE, examples, provenance, run
from test_page import read

from probekit.evidence.tables import ranked
from probekit.evidence.truth import Truth
from probekit.report import answer, glossary, in_words, known_answer, overview, showcase, strongest
from probekit.report.charts import figures, overview_svg
from probekit.report.page import Companion, render_page

SVG = "{http://www.w3.org/2000/svg}"
CONCEPTS = pd.DataFrame(
    {
        "name": ["token ` if`", "line start"], "kind": "token", "description": ["the token is “ if”", "a line begins"],
        "examples": [[], []], "n_tokens": 9, "n_docs": 3,
    }
)  # fmt: skip


def texts(svg: str) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def planted(pairs: dict[int, pd.DataFrame], layer: int = 1) -> Truth:
    """The first eight pairs by rank were planted, the ninth is read together."""
    head = ranked(pairs[layer]).head(9)
    names = list(zip(head["a"], head["b"], strict=True))
    return Truth({layer: tuple(names[:8])}, {layer: (names[8],)})


def detail(pairs: dict[int, pd.DataFrame]) -> Any:
    """What a run keeps of the first example."""
    rows = pairs[1][(pairs[1]["a"] == "token ` if`") & (pairs[1]["b"] == "line start")].reset_index(drop=True)
    beside = pd.DataFrame([{"n_twins": 3, "twin_mean": 0.5, "twin_low": 0.2, "twin_high": 0.9}])
    quadrants = pd.DataFrame(
        [
            {
                "layer": 1, "quadrant": key, "n_tokens": 80, "n_sampled": 80, "mean": 0.1, "q5": -0.2, "q50": 0.1,
                "q95": 0.9, "low": -0.5, "high": 1.5, "counts": [1, 5, 9, 5, 1],
            }
            for key in ("11", "10", "01", "00")
        ]
    )  # fmt: skip
    twins = pd.DataFrame({"layer": 1, "twin": [0, 1, 2], "d_prime": [0.2, 0.4, 0.9]})
    return SimpleNamespace(
        a="token ` if`", b="line start", layers=pd.concat([rows, beside], axis=1), quadrants=quadrants, twins=twins,
        neurons=pd.DataFrame(), contexts=pd.DataFrame(), meanings={},
    )  # fmt: skip


@pytest.fixture(scope="module")
def page() -> str:
    summary, layers, pairs = run()
    companion = run(("finds",), "binds", "planted")
    return render_page(
        summary, layers, pairs, examples=examples()[:1], provenance=provenance(), concepts=CONCEPTS, detail=detail(pairs),
        truth=planted(pairs), companions=[Companion("net", *companion, planted(companion[2], 0))],
    )  # fmt: skip


def first(page: str) -> str:
    return page.split('<section class="three"', maxsplit=1)[0]


def test_the_headline_is_the_heading_and_has_the_number(page: str) -> None:
    heading = re.search(r"<h1>(.*?)</h1>", page, re.S)
    assert heading is not None
    assert "133 of 1\u202f140 tested pairs stand above all null layers" in re.sub(r"<[^>]+>", "", heading[1])


def test_picture_pair_and_floor_come_before_anything_folded(page: str) -> None:
    head = first(page)
    assert "<details" not in head
    assert 'id="overview-title"' in head
    assert 'id="showcase-title"' in head
    assert "What could have been found" in head
    assert head.count('class="quadrant q') == 4
    assert "Known positive" in head


def test_all_else_is_folded(page: str) -> None:
    body = page.split('<section class="three"')[1].split("</section>", 1)[1].split("</main>", maxsplit=1)[0]
    depth = 0
    for tag in re.findall(r"<(/?details|table|figure|h3)\b", body):
        if tag == "details":
            depth += 1
        elif tag == "/details":
            depth -= 1
        else:
            assert depth > 0, tag
    # what is printed: ladder, truth, sensitivity, pairs, methods, and the best layer's table
    assert body.count('class="part print"') == 5


@pytest.mark.sweep
def test_many_layers_print_no_panel_for_each() -> None:
    summary, layers, pairs = run(("none",) * 8)
    drawn = figures(*run(("none",)))  # any will do: only what is folded is looked at
    text = render_page(summary, layers, pairs, drawn=drawn)
    assert '<details class="part" id="ladder">' in text
    assert '<details class="part print" id="pairs">' in text


def test_the_pair_is_told_in_language(page: str) -> None:
    head = re.sub(r"<[^>]+>", "", first(page))
    assert "The strongest pair, layer 1" in head
    assert "A the token is “ if” · B a line begins" in head
    assert "On unseen documents layer 1 tells A-and-B from what A and B add up to with a d′ of" in head
    assert "(null layers: 0.2 to 0.9)" in head


def test_the_pair_shown_is_the_first_of_the_one_ranking() -> None:
    summary, _, pairs = run()
    best = ranked(pairs[1]).iloc[[4, 2]]
    shown = [{**examples()[0], "a": row["a"], "b": row["b"]} for row in best.to_dict("records")]
    beside = [{**one, "layer": 0, **ranked(pairs[0]).iloc[0][["a", "b"]].to_dict()} for one in shown[:1]]
    chosen = showcase.chosen(summary, pairs, [*beside, *shown])
    assert chosen is not None
    # the headline's layer goes before another one, within it the ranking
    assert (chosen["layer"], chosen["a"], chosen["b"]) == (1, best.iloc[1]["a"], best.iloc[1]["b"])
    assert showcase.chosen(summary, pairs, []) is None
    # of two finds the one that is no set of token types goes before, wherever it stands in the ranking
    finds = ranked(pairs[1]).iloc[:2][["a", "b"]].to_dict("records")
    table = pairs[1].assign(above_twins=True)
    first = (table["a"] == finds[0]["a"]) & (table["b"] == finds[0]["b"])
    table.loc[first, "kind"] = "class × token, same token"
    both = [{**examples()[0], **one} for one in finds]
    chosen = showcase.chosen(summary, {**pairs, 1: table}, both)
    assert chosen is not None
    assert (chosen["a"], chosen["b"]) == (finds[1]["a"], finds[1]["b"])
    # but never something that is no find
    chosen = showcase.chosen(summary, {**pairs, 1: table.assign(above_twins=first, computed=first)}, both)
    assert chosen is not None
    assert (chosen["a"], chosen["b"]) == (finds[0]["a"], finds[0]["b"])


@pytest.mark.parametrize("kind", ["doubtful", "relayed", "finds"])
def test_headline_and_pair_speak_of_one_layer(kind: str) -> None:
    summary, _, pairs = run(("none", kind, "none"))
    shown = [
        {**examples()[0], "layer": layer, **ranked(table).iloc[0][["a", "b"]].to_dict()}
        for layer, table in pairs.items()
    ]
    chosen = showcase.chosen(summary, pairs, shown)
    assert chosen is not None
    assert chosen["layer"] == 1
    assert "layer 1" in answer.headline(summary)
    # the control: with the first layer's pair alone there is no other to show
    assert showcase.chosen(summary, pairs, shown[:1]) == shown[0]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (
            {"computed": True, "above_twins": True, "superposed": True},
            "lead one to expect (pair-specific), and most of its neurons",
        ),
        ({"computed": True, "above_twins": True}, "lead one to expect (pair-specific)."),
        ({"above_twins": True}, "so it may be a matter of A or of B alone"),
        ({"relayed": True}, "without what the layer’s input already holds of the AND it is no better"),
        ({}, "That is not a find"),
    ],
)
def test_the_sentence_says_what_holds_and_no_more(flags: dict[str, bool], said: str) -> None:
    none = dict.fromkeys(("computed", "above_twins", "relayed", "superposed"), pd.NA)
    row = {"layer": 3, "d_prime": 1.26, **none, **flags}
    told = in_words.sentence(row, n_twins=8, low=0.3, high=0.5)
    assert said in told
    assert "d′ of 1.3 (null layers: 0.3 to 0.5)" in told
    assert "no null layer was measured" in in_words.sentence(row, n_twins=0)


def test_planted_pairs_are_called_what_they_are(page: str) -> None:
    _, _, pairs = run()
    truth = planted(pairs)
    (a, b), other = truth.planted[1][6], truth.read_together[1][0]
    assert known_answer.called(truth, 1, b, a) == "planted AND no. 7"
    assert known_answer.called(truth, 1, *other) == "not planted, read together"
    assert known_answer.called(truth, 1, a, "nothing") == "not planted"
    assert known_answer.called(truth, 0, a, b) == known_answer.called(None, 1, a, b) == ""
    table = strongest.strongest_table(run()[0]["layers"][1], pairs[1], truth)[1]
    assert [row[table.columns.index("Known answer")] for row in table.rows][:9] == [
        *(f"planted AND no. {number}" for number in range(1, 9)),
        "not planted, read together",
    ]
    assert "planted AND no. 1" in page


def test_precision_and_recall_are_told_with_what_else_was_found(page: str) -> None:
    _, _, pairs = run()
    told = [known_answer.sentence(one) for one in known_answer.scores(planted(pairs), pairs)]
    n_superposed = pairs[1]["superposed"][ranked(pairs[1]).index[:8]].sum()
    # 133 stand above: 8 planted, 1 read together, 124 of the 1,131 others
    expected = (
        "The answer is known: 8 of 8 planted pairs tested stand above the null layers (recall 100\u202f%), 8 of them "
        f"pair-specific and {n_superposed} in superposition; besides them stand 1 of 1 pairs that some neuron reads "
        "together by accident and 124 of 1\u202f131 pairs that none does (precision 6\u202f%)."
    )
    assert told == [expected]
    assert "Held against the known answer" in page


def test_the_picture_has_the_known_positive_on_top_and_every_layer_below() -> None:
    rows = run(("none", "finds"))[0]["layers"]
    best = overview.best_row(run(("none", "finds"))[0])
    assert best["layer"] == 1
    drawn = overview_svg(rows, ("Planted, known", best))
    assert drawn is not None
    shown = texts(drawn)
    assert [text for text in shown if text.startswith(("Planted", "Layer"))] == [
        "Planted, known",
        "Layer 0",
        "Layer 1",
    ]
    assert "133 of 1\u202f140 (0.5)" in shown
    assert "share of the tested pairs (square-root scale)" in shown
    assert {"named", "pair-specific", "null layers"} <= set(shown)
    assert "at least (95 %)" not in shown
    rows[0]["n_at_least_above"] = 40
    bounded = overview_svg(rows)
    assert bounded is not None
    assert "at least (95 %)" in texts(bounded)


def test_without_null_layers_there_is_no_picture() -> None:
    rows = run(("none",))[0]["layers"]
    rows[0] |= {"twins": None, "n_above_twins": None}
    assert overview_svg(rows) is None


def test_every_symbol_has_its_meaning(page: str) -> None:
    explained = set(re.findall(r'<abbr class="tip" tabindex="0" title="[^"]{10,}">([^<]+)</abbr>', page))
    assert {
        "d′",
        "κ ± s.e.",
        "q",
        "q above",
        "null layers",
        "n²/ln n",
        "pair-specific",
        "recall",
    } <= explained
    # headings of numbers: each one that is no plain word is explained wherever it stands
    headings = set(re.findall(r"<th scope=\"col\"[^>]*>([^<]+)</th>", page))
    assert not headings & (set(glossary.COLUMNS) | set(glossary.TERMS))


def test_words_are_marked_once_and_text_stays_text() -> None:
    told = str(glossary.tipped(f"null layers and null layers {HOSTILE} d′"))
    assert told.count('class="tip"') == 2
    assert HOSTILE not in told
    assert re.sub(r"<abbr[^>]*>|</abbr>", "", told).count("null layers") == 2
    assert str(glossary.tip(HOSTILE)) != HOSTILE


def test_nothing_interactive_is_nested(page: str) -> None:
    inside: list[str] = []
    for tag in re.findall(r"<(/?(?:a|button|summary|abbr class=\"tip\"|abbr))\b", page):
        if tag in {"/a", "/button", "/summary"}:
            inside.pop()
        elif tag in {"a", "button", "summary"}:
            assert not inside
            inside.append(tag)
        elif "tip" in tag:
            assert not inside
    read(page)
