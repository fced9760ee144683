"""Every default concept against a slow second implementation that works on the strings themselves.

The reference shares no code with the package: it takes the surface of each token, joins what was read so far,
and asks the string. Character classes come from `unicodedata`, not from `str` methods.
"""

from __future__ import annotations

import functools
import itertools
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest

from probekit.text.concepts.concepts import Concepts
from probekit.text.concepts.vocabulary import read_vocabulary
from probekit.text.corpus import Corpus
from probekit.text.tokens import Tokens

LETTERS = {"Lu", "Ll", "Lt", "Lm", "Lo"}
UNPRINTABLE = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp", "Zs"}
WRAPPERS = "\"'“”‘’()[]{}`"


def kind(letter: str) -> str:
    return unicodedata.category(letter)


def letters_only(body: str) -> bool:
    return body != "" and {kind(letter) for letter in body} <= LETTERS


def blank(text: str) -> bool:
    return re.fullmatch(r"\s+", text) is not None


def word_in(words: str) -> Callable[[str], bool]:
    pattern = re.compile(
        rf"(\s+({'|'.join(words.split())})|(?=[A-Z])({'|'.join(words.split())}))\s*", re.IGNORECASE
    )
    starts = re.compile(r"\s|[A-Z]")
    return lambda s: pattern.fullmatch(s) is not None and starts.match(s) is not None


def capitalised(s: str) -> bool:
    body = s.strip()
    if not body or kind(body[0]) != "Lu":
        return False
    cased = [kind(letter) for letter in body if kind(letter) in ("Lu", "Ll", "Lt")]
    return len(body) == 1 or "Ll" in cased or "Lt" in cased


def ends(suffix: str) -> Callable[[str], bool]:
    return lambda s: letters_only(s.strip()) and re.search(rf"{suffix}\s*$", s, re.IGNORECASE) is not None


CLASSES: dict[str, Callable[[str], bool]] = {
    "word-start": lambda s: s.startswith(" ") and len(s) > 1 and kind(s[1]) in LETTERS,
    "word-piece": lambda s: kind(s[0]) in LETTERS,
    "capitalised": capitalised,
    "all-caps": lambda s: len(s.strip()) > 1 and {kind(letter) for letter in s.strip()} == {"Lu"},
    "lower-word": lambda s: re.fullmatch(r"\s*[a-zà-öø-ÿ]{4,}\s*", s) is not None,
    "single-letter": lambda s: len(s.strip()) == 1 and kind(s.strip()) in LETTERS,
    "digit": lambda s: re.fullmatch(r"\s*[0-9]+\s*", s) is not None,
    "punctuation": lambda s: (
        bool(s.strip()) and all(kind(x) not in LETTERS | UNPRINTABLE and kind(x)[0] != "N" for x in s.strip())
    ),
    "newline": lambda s: s.count("\n") > 0,
    "whitespace": blank,
    "indentation": lambda s: blank(s) and len(s.split("\n")[-1]) >= 2,
    "sentence-end": lambda s: re.search(r"[.!?]\s*$", s) is not None,
    "open-bracket": lambda s: re.search(r"[(\[{]", s) is not None,
    "close-bracket": lambda s: re.search(r"[)\]}]", s) is not None,
    "quote": lambda s: re.search("[\"'“”‘’]", s) is not None,
    "backtick": lambda s: "`" in s,
    "underscore": lambda s: "_" in s,
    "operator": lambda s: re.search(r"[=+*/<>]", s) is not None,
    "determiner": word_in("a an the this that these those each every some any no"),
    "preposition": word_in(
        "of in to for with on at by from as into about over after before between through under up down out "
        "off"
    ),
    "pronoun": word_in("i you he she it we they me him her us them his its their my your our who which what"),
    "auxiliary": word_in(
        "is are was were be been being am has have had do does did will would can could may might must shall "
        "should"
    ),
    "conjunction": word_in("and or but if when while because so than then not also else unless though"),
    "ends-ing": ends("ing"),
    "ends-ed": ends("ed"),
    "ends-s": ends("s"),
    "ends-ly": ends("ly"),
    "ends-er": ends("er"),
    "ends-tion": ends("tion"),
}


def listed(words: str) -> Callable[[str], bool]:
    """A whole word of a list, told by splitting the string, not by a set."""
    known = words.split()

    def test(s: str) -> bool:
        body = re.sub(r"^\s+|\s+$", "", s)
        starts = s != "" and (re.match(r"\s", s) is not None or "A" <= s[0] <= "Z")
        return starts and any(
            len(word) == len(body) and re.match(word, body, re.IGNORECASE) for word in known
        )

    return test


def begins(*prefixes: str) -> Callable[[str], bool]:
    whole = re.compile(r"(?:\s+|(?=[A-Z]))([^\W\d_]+)\s*")

    def test(s: str) -> bool:
        match = whole.fullmatch(s)
        return match is not None and any(
            re.match(f"{prefix}.{{3}}", match[1], re.IGNORECASE) for prefix in prefixes
        )

    return test


def exactly(bodies: str) -> Callable[[str], bool]:
    return lambda s: any(re.fullmatch(rf"\s*{re.escape(body)}\s*", s) for body in bodies.split())


MORE: dict[str, Callable[[str], bool]] = {
    "camel-case": lambda s: any(
        kind(a) == "Ll" and kind(b) == "Lu" and a < "{" for a, b in itertools.pairwise(s)
    ),
    "long-word": lambda s: letters_only(s.strip()) and len(re.findall(".", s.strip())) > 6,
    "short-word": lambda s: s.startswith(" ") and letters_only(s.strip()) and len(s.strip()) in (1, 2, 3),
    "non-ascii": lambda s: any(ord(letter) > 127 for letter in s),
    "single-digit": lambda s: re.fullmatch(r"\s*[0-9]\s*", s) is not None,
    "four-digits": lambda s: re.fullmatch(r"\s*[0-9][0-9][0-9][0-9]\s*", s) is not None,
    "currency-or-percent": lambda s: re.search("[$€£¥%]", s) is not None,
    "comma": exactly(","),
    "full-stop": exactly("."),
    "colon": exactly(":"),
    "semicolon": exactly(";"),
    "question-or-exclamation": exactly("? !"),
    "dash": exactly("- – — -- ---"),
    "slash": exactly("/ \\ //"),
    "clitic": lambda s: (
        s.strip().replace("’", "'").lower() in {"n't", "'s", "'re", "'ve", "'ll", "'d", "'m", "'t"}
    ),
    "article": listed("a an the"),
    "demonstrative": listed("this that these those"),
    "quantifier": listed("some any no every each all both few many most several much more less"),
    "personal-pronoun": listed("i you he she it we they me him her us them"),
    "possessive": listed("my your his her its our their"),
    "wh-word": listed("who whom whose which what when where why how"),
    "negation": listed("not no never none nor neither nothing without"),
    "modal": listed("will would can could may might must shall should"),
    "be-form": listed("is are was were be been being am"),
    "have-form": listed("has have had having"),
    "do-form": listed("do does did done doing"),
    "coordinator": listed("and or but nor yet"),
    "subordinator": listed("if when while because although though unless until since whether where"),
    "locative": listed("in on at under over above below between inside into onto from"),
    "number-word": listed(
        "zero one two three four five six seven eight nine ten eleven twelve twenty hundred thousand million first second "
        "third"
    ),
    "month-or-day": listed(
        "january february march april june july august september october november december monday tuesday wednesday "
        "thursday friday saturday sunday"
    ),
    "unit": listed(
        "m cm mm km kg g lb ft mph hz khz mhz ms s kb mb gb bytes bits pixels seconds minutes hours days weeks months "
        "years miles feet inches metres meters pounds dollars percent degrees"
    ),
    "code-keyword": listed(
        "def class return import from if elif else for while try except raise with lambda yield none true false self int "
        "str float bool list dict tuple"
    ),
    "ends-est": ends("est"),
    "ends-ment": ends("ment"),
    "ends-ness": ends("ness"),
    "ends-ity": ends("ity"),
    "ends-ous": ends("ous"),
    "ends-ive": ends("ive"),
    "ends-able": ends("(able|ible)"),
    "ends-al": ends("al"),
    "ends-ful": ends("(ful|less)"),
    "ends-ize": ends("(ize|ise|ify)"),
    "ends-ance": ends("(ance|ence)"),
    "begins-un": begins("un"),
    "begins-re": begins("re"),
    "begins-dis": begins("dis", "de"),
    "begins-in": begins("in", "im"),
    "begins-con": begins("con", "com"),
    "begins-pre": begins("pre", "pro"),
}


class Reader:
    """One document read token by token; every question is asked of the text so far."""

    def __init__(self, ids: list[int], surfaces: list[str]) -> None:
        self.ids, self.surfaces = ids, surfaces
        self.sentences: list[
            tuple[int, int]
        ] = []  # (token, character) of each sentence's first solid character
        self.step(0)

    def step(self, t: int) -> None:
        self.t, self.surface = t, self.surfaces[t]
        self.before = "".join(self.surfaces[:t])
        self.text = self.before + self.surface
        ink = re.search(r"\S", self.surface)
        self.to_ink = None if ink is None else self.before + self.surface[: ink.end()]
        self.starts_sentence = self.sentence_start()
        if self.starts_sentence:
            self.sentences.append((t, len(self.before) + self.first_solid()))

    def first_solid(self) -> int:
        return next((i for i, x in enumerate(self.surface) if not x.isspace() and x not in WRAPPERS), -1)

    def sentence_start(self) -> bool:
        place = self.first_solid()
        if place < 0:
            return False
        read = self.before + self.surface[:place]
        core = re.sub(rf"[\s{re.escape(WRAPPERS)}]*\Z", "", read)
        gap = read[len(core) :]
        return core == "" or (core[-1] in ".!?。！？" and re.search(r"\s", gap) is not None)

    def depth(self, brackets: str) -> int:
        open_now = 0
        for letter in self.text:
            if letter == brackets[0]:
                open_now += 1
            elif letter == brackets[1] and open_now:
                open_now -= 1
        return open_now

    def line_of_ink(self) -> str:
        """The current line up to the token's first ink."""
        return "" if self.to_ink is None else self.to_ink.split("\n")[-1]

    def line_head(self) -> str:
        return self.line_of_ink().lstrip()[:1]

    def line_indent(self) -> int:
        line = self.line_of_ink()
        return len(line) - len(line.lstrip()) if line.strip() else 0

    def line_tokens(self) -> int:
        """Tokens from the one that holds the first ink of the last line with ink, this one left out."""
        lines = re.split("\n", self.text)
        while lines and not lines[-1].strip():
            lines.pop()
        if not lines:
            return 10**6
        first = sum(len(line) + 1 for line in lines[:-1]) + len(lines[-1]) - len(lines[-1].lstrip())
        ends = list(itertools.accumulate(len(s) for s in self.surfaces[: self.t + 1]))
        return self.t - next(u for u, end in enumerate(ends) if end > first)

    def same_three(self) -> int:
        three = self.ids[self.t - 2 : self.t + 1]
        return self.back(lambda u: u > 1 and self.ids[u - 2 : u + 1] == three) if self.t > 1 else 0

    def previous_seen(self) -> bool:
        return self.t > 0 and self.ids[self.t - 1] in self.ids[: self.t - 1]

    def back(self, earlier: Callable[[int], bool]) -> int:
        return next((self.t - u for u in range(self.t - 1, -1, -1) if earlier(u)), 0)

    def same_token(self) -> int:
        return self.back(lambda u: self.ids[u] == self.ids[self.t])

    def same_pair(self) -> int:
        pair = self.ids[self.t - 1 : self.t + 1]
        return self.back(lambda u: u > 0 and self.ids[u - 1 : u + 1] == pair) if self.t else 0


CONTEXTS: dict[str, Callable[[Reader], bool]] = {
    "in:quotes": lambda r: r.text.count('"') % 2 == 1 or r.text.count("“") > r.text.count("”"),
    "in:parentheses": lambda r: r.depth("()") > 0,
    "in:square-brackets": lambda r: r.depth("[]") > 0,
    "in:braces": lambda r: r.depth("{}") > 0,
    "in:nested-brackets": lambda r: r.depth("()") + r.depth("[]") + r.depth("{}") >= 2,
    "in:backticks": lambda r: len(re.findall("`+", r.text)) % 2 == 1,
    "at:sentence-start": lambda r: r.starts_sentence,
    "in:sentence-head": lambda r: bool(r.sentences) and r.t - r.sentences[-1][0] < 4,
    "in:comma-clause": lambda r: bool(r.sentences) and "," in r.text[r.sentences[-1][1] + 1 :],
    "at:line-start": lambda r: len(r.line_of_ink().strip()) == 1,
    "in:first-line": lambda r: r.text.strip() != "" and "\n" not in r.text.lstrip(),
    "in:indented-line": lambda r: re.match(r"\s\s", r.line_of_ink()) is not None,
    "line:capital": lambda r: r.line_head() != "" and kind(r.line_head()) == "Lu",
    "line:lower": lambda r: r.line_head() != "" and kind(r.line_head()) == "Ll",
    "line:list": lambda r: r.line_head() != "" and r.line_head() in "-*+•",
    "line:prompt": lambda r: r.line_head() == ">",
    "in:late-sentence": lambda r: bool(r.sentences) and r.t - r.sentences[-1][0] >= 16,
    "in:line-head": lambda r: r.line_tokens() < 4,
    "in:indent-4": lambda r: r.line_indent() >= 4,
    "in:indent-8": lambda r: r.line_indent() >= 8,
    "line:number": lambda r: r.line_head().isdecimal(),
    "line:hash": lambda r: r.line_head() == "#",
    "line:colon": lambda r: r.line_head() == ":",
    "at:mid-number": lambda r: (
        re.search(r"[0-9]\Z", r.before) is not None and re.match("[0-9]", r.surface) is not None
    ),
    "after:number": lambda r: (
        re.search(r"[0-9]\s*$", r.before) is not None
        and re.match("[0-9]", r.surface) is None
        and r.surface.strip() != ""
    ),
    "seen:long-ago": lambda r: r.same_token() > 32,
    "seen:trigram": lambda r: r.same_three() > 0,
    "seen:other-next": lambda r: r.previous_seen() and r.same_pair() == 0,
    "line:has-colon": lambda r: ":" in r.text.split("\n")[-1],
    "line:has-equals": lambda r: "=" in r.text.split("\n")[-1],
    "at:mid-word": lambda r: (
        bool(r.before and r.surface) and {kind(r.before[-1]), kind(r.surface[0])} <= LETTERS
    ),
    "seen:token": lambda r: r.same_token() > 0,
    "seen:recently": lambda r: 1 <= r.same_token() <= 8,
    "seen:bigram": lambda r: r.same_pair() > 0,
}


def identity(name: str, tokens: Tokens, surfaces: tuple[str, ...]) -> tuple[int, int]:
    """Lag and id of a token concept's name: of several ids with this surface, the most frequent one."""
    lag, test = class_test(name)
    if number := re.search(r"\"#(\d+)$", name):
        return lag, int(number[1])
    counts = Counter(int(index) for index in tokens.ids[tokens.counted] if test(surfaces[index]))
    return lag, counts.most_common(1)[0][0]


def class_test(name: str) -> tuple[int, Callable[[str], bool]]:
    """Lag and test of a token or class concept's name, such as `prev=" the"` or `cur:digit`."""
    match = re.fullmatch(r"(cur|prev\d*)([:=])(.*)", name, re.DOTALL)
    assert match is not None
    lag = {"cur": 0, "prev": 1, "prev2": 2}[match[1]]
    if match[2] == ":":
        return lag, functools.cache(
            (CLASSES | MORE)[match[3]]
        )  # asked thousands of times about the same few strings
    quoted = re.sub(r"#\d+$", "", match[3])
    surface = json.loads(re.sub(r"\\x(..)", r"\\udc\1", quoted))  # a byte that is no whole character
    return lag, lambda s: s == surface


def reference(names: tuple[str, ...], tokens: Tokens, surfaces: tuple[str, ...]) -> np.ndarray:
    """bool[token concept] from strings."""
    tests = {name: class_test(name) for name in names if name.startswith(("cur:", "prev:", "prev2:"))}
    same = {name: identity(name, tokens, surfaces) for name in names if re.match("(cur|prev2?)=", name)}
    rows: list[list[bool]] = []
    for row, length in zip(tokens.ids, tokens.lengths, strict=True):
        ids = [int(index) for index in row[int(tokens.bos_id is not None) : length]]
        read = [surfaces[index] for index in ids]
        reader = Reader(ids, read)
        for t in range(len(ids)):
            if t:
                reader.step(t)
            labels: list[bool] = []
            for name in names:
                if name in tests:
                    lag, test = tests[name]
                    labels.append(t >= lag and read[t - lag] != "" and test(read[t - lag]))
                elif name in same:
                    lag, index = same[name]
                    labels.append(t >= lag and ids[t - lag] == index)
                elif name.startswith("pos:"):
                    low, high = (int(part) for part in name[4:].split("-"))
                    labels.append(low <= t <= high)
                else:
                    labels.append(CONTEXTS[name](reader))
            rows.append(labels)
    return np.array(rows)


def differences(tokenizer, texts: list[str], n_tokens: int) -> tuple[dict[str, int], np.ndarray]:
    tokens = Corpus.from_texts(texts).tokenize(
        tokenizer, context=96, max_tokens=n_tokens, bos_id=tokenizer.bos_token_id
    )
    assert tokens.n_tokens > 0.98 * n_tokens
    concepts = Concepts.defaults(tokenizer, tokens)
    got = concepts.label(tokens).dense()
    wanted = reference(concepts.names, tokens, read_vocabulary(tokenizer).surfaces)
    wrong = (got != wanted).sum(0)
    return {name: int(n) for name, n in zip(concepts.names, wrong, strict=True) if n}, wanted


def test_every_default_concept_agrees_with_the_strings(tokenizer, family, generated) -> None:
    wrong, wanted = differences(tokenizer, generated(160, seed=2), 5_000)
    assert wrong == {}
    # the positive control: the reference itself says yes somewhere for nearly every concept of these texts
    assert (wanted.any(0)).mean() > (0.9 if family != "wordpiece" else 0.85)


@pytest.mark.slow
def test_every_default_concept_agrees_with_the_strings_on_many_tokens(tokenizer, generated) -> None:
    wrong, _ = differences(tokenizer, generated(4_000, seed=3), 101_000)
    assert wrong == {}


@pytest.mark.parametrize(("seed", "n_tokens"), [(0, 1_000), pytest.param(1, 100_000, marks=pytest.mark.slow)])
def test_any_string_of_tokens_is_read_right(tokenizer, seed, n_tokens) -> None:
    """Ids at random: tokens with line breaks, brackets and quotes meet in ways that no text would bring."""
    rng = np.random.default_rng(seed)
    vocabulary = read_vocabulary(tokenizer)
    odd = [i for i, s in enumerate(vocabulary.surfaces) if re.search("[^a-zA-Z]", s.strip()) or blank(s)]
    ids = rng.integers(len(vocabulary), size=(n_tokens // 40, 40))
    ids = np.where(rng.random(ids.shape) < 0.6, rng.choice(odd, size=ids.shape), ids)
    tokens = Corpus.from_tokens(ids).tokenize(None, context=40, max_tokens=n_tokens, bos_id=None)
    concepts = Concepts.defaults(tokenizer, tokens)
    got = concepts.label(tokens).dense()
    wanted = reference(concepts.names, tokens, vocabulary.surfaces)
    wrong = {name: int(n) for name, n in zip(concepts.names, (got != wanted).sum(0), strict=True) if n}
    assert wrong == {}
