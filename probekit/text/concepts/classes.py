"""Classes of single tokens: spelling, punctuation, numbers, closed lexical classes, morphology, code.

Source: the token classes of sparse-probing work (Gurnee et al. 2023) and of descriptive grammars (closed classes and
derivational affixes of English). Decided from the surface of each vocabulary id alone; a token's *body* is its surface
without the white space around it. A lexical class wants a whole word: `in` inside `string` has neither a space before it
nor a capital. An affix is letters, not a morpheme: "thing" ends in -ing.
"""

from __future__ import annotations

import re
from collections.abc import Callable

Test = Callable[[str], bool]

DETERMINERS = frozenset({
    "a", "an", "the", "this", "that", "these", "those", "each", "every", "some", "any", "no",
})  # fmt: skip
PREPOSITIONS = frozenset({
    "of", "in", "to", "for", "with", "on", "at", "by", "from", "as", "into", "about", "over",
    "after", "before", "between", "through", "under", "up", "down", "out", "off",
})  # fmt: skip
PRONOUNS = frozenset({
    "i", "you", "he", "she", "it", "we", "they", "me", "him", "her", "us", "them", "his", "its",
    "their", "my", "your", "our", "who", "which", "what",
})  # fmt: skip
AUXILIARIES = frozenset({
    "is", "are", "was", "were", "be", "been", "being", "am", "has", "have", "had", "do", "does",
    "did", "will", "would", "can", "could", "may", "might", "must", "shall", "should",
})  # fmt: skip
CONJUNCTIONS = frozenset({
    "and", "or", "but", "if", "when", "while", "because", "so", "than", "then", "not", "also",
    "else", "unless", "though",
})  # fmt: skip
LEXICAL: dict[str, tuple[str, str]] = {
    "article": ("a an the", "an article"),
    "demonstrative": ("this that these those", "this, that, these or those"),
    "quantifier": (
        "some any no every each all both few many most several much more less",
        "a quantifier such as some, all, many",
    ),
    "personal-pronoun": (
        "i you he she it we they me him her us them",
        "a personal pronoun such as I, they, him",
    ),
    "possessive": ("my your his her its our their", "a possessive such as my, its, their"),
    "wh-word": (
        "who whom whose which what when where why how",
        "a question or relative word such as who, which, how",
    ),
    "negation": ("not no never none nor neither nothing without", "a negation such as not, no, never"),
    "modal": ("will would can could may might must shall should", "a modal verb such as can, must, would"),
    "be-form": ("is are was were be been being am", "a form of be"),
    "have-form": ("has have had having", "a form of have"),
    "do-form": ("do does did done doing", "a form of do"),
    "coordinator": ("and or but nor yet", "and, or, but, nor or yet"),
    "subordinator": (
        "if when while because although though unless until since whether where",
        "a subordinating conjunction such as if, because, when",
    ),
    "locative": ("in on at under over above below between inside into onto from", "a preposition of place"),
    "number-word": (
        """zero one two three four five six seven eight nine ten eleven twelve twenty hundred thousand million first second
        third""",
        "a number in letters such as two, ten, first",
    ),
    "month-or-day": (
        """january february march april june july august september october november december monday tuesday wednesday
        thursday friday saturday sunday""",
        "a month or a day of the week",
    ),
    "unit": (
        """m cm mm km kg g lb ft mph hz khz mhz ms s kb mb gb bytes bits pixels seconds minutes hours days weeks months years
        miles feet inches metres meters pounds dollars percent degrees""",
        "a unit such as km, bytes, years",
    ),
    "code-keyword": (
        """def class return import from if elif else for while try except raise with lambda yield none true false self int
        str float bool list dict tuple""",
        "a keyword or built-in type of Python in any case",
    ),
}
"""Words of further closed classes, and what they are."""
SUFFIXES: dict[str, tuple[str, ...]] = {
    "ing": ("ing",), "ed": ("ed",), "s": ("s",), "ly": ("ly",), "er": ("er",), "tion": ("tion",), "est": ("est",),
    "ment": ("ment",), "ness": ("ness",), "ity": ("ity",), "ous": ("ous",), "ive": ("ive",), "able": ("able", "ible"),
    "al": ("al",), "ful": ("ful", "less"), "ize": ("ize", "ise", "ify"), "ance": ("ance", "ence"),
}  # fmt: skip
PREFIXES: dict[str, tuple[str, ...]] = {
    "un": ("un",), "re": ("re",), "dis": ("dis", "de"), "in": ("in", "im"), "con": ("con", "com"), "pre": ("pre", "pro"),
}  # fmt: skip
_LONG, _SHORT, _STEM = 7, 3, 3
_STARTS_WORD = re.compile(r"\s|[A-Z]")
_CAMEL = re.compile("[a-z][A-Z]")
_CLITIC = re.compile(r"(?:n['’]t|['’](?:s|re|ve|ll|d|m|t))", re.IGNORECASE)


def _is_word(surface: str) -> bool:
    return surface.strip().isalpha()


def _word_of(words: frozenset[str]) -> Test:
    """A whole word: `in` inside `string` has neither a space before it nor a capital."""
    return lambda surface: surface.strip().lower() in words and _STARTS_WORD.match(surface) is not None


def _ends_in(suffixes: tuple[str, ...]) -> Test:
    return lambda surface: _is_word(surface) and surface.strip().lower().endswith(suffixes)


def _begins_with(prefixes: tuple[str, ...]) -> Test:
    """A word piece that starts a word, with a stem of three letters or more after the prefix."""

    def test(surface: str) -> bool:
        body = surface.strip().lower()
        whole = _STARTS_WORD.match(surface) is not None and body.isalpha()
        return whole and any(
            body.startswith(prefix) and len(body) >= len(prefix) + _STEM for prefix in prefixes
        )

    return test


def _holds(letters: str) -> Test:
    return lambda surface: any(letter in letters for letter in surface)


def _is_one_of(*bodies: str) -> Test:
    return lambda surface: surface.strip() in bodies


def _capitalised(surface: str) -> bool:
    body = surface.strip()
    return body[:1].isupper() and (len(body) == 1 or not body.isupper())


def _all_caps(surface: str) -> bool:
    body = surface.strip()
    return len(body) > 1 and body.isalpha() and body.isupper()


def _digit(surface: str) -> bool:
    return surface.strip().isdigit()


def _punctuation(surface: str) -> bool:
    body = surface.strip()
    return bool(body) and all(
        letter.isprintable() and not letter.isalnum() and letter != " " for letter in body
    )


def _indentation(surface: str) -> bool:
    return surface.isspace() and len(surface.rpartition("\n")[2]) > 1


def _either(words: tuple[str, ...], mark: str) -> str:
    return " or ".join(f"{mark[0]}{word}{mark[1]}".strip() for word in words)


CLASSES: dict[str, tuple[Test, str]] = {
    "word-start": (lambda s: s[:1] == " " and s[1:2].isalpha(), "starts with a space and a letter"),
    "word-piece": (lambda s: s[:1].isalpha(), "starts with a letter, without a space before it"),
    "capitalised": (_capitalised, "starts with a capital and is not all capitals"),
    "all-caps": (_all_caps, "two letters or more, all capitals"),
    "camel-case": (lambda s: _CAMEL.search(s) is not None, "a capital right after a small letter"),
    "lower-word": (
        lambda s: _is_word(s) and s.islower() and len(s.strip()) > 3,
        "four or more small letters",
    ),
    "long-word": (lambda s: _is_word(s) and len(s.strip()) >= _LONG, "seven letters or more"),
    "short-word": (
        lambda s: s[:1] == " " and _is_word(s) and len(s.strip()) <= _SHORT,
        "a space and one to three letters",
    ),
    "single-letter": (lambda s: _is_word(s) and len(s.strip()) == 1, "one letter"),
    "non-ascii": (lambda s: not s.isascii(), "holds a character beyond ASCII"),
    "digit": (_digit, "digits only"),
    "single-digit": (lambda s: _digit(s) and len(s.strip()) == 1, "one digit"),
    "four-digits": (lambda s: _digit(s) and len(s.strip()) == 4, "four digits, as a year has"),
    "currency-or-percent": (_holds("$€£¥%"), "holds a currency or percent sign"),
    "punctuation": (_punctuation, "neither letters nor digits"),
    "comma": (_is_one_of(","), "a comma"),
    "full-stop": (_is_one_of("."), "a full stop"),
    "colon": (_is_one_of(":"), "a colon"),
    "semicolon": (_is_one_of(";"), "a semicolon"),
    "question-or-exclamation": (_is_one_of("?", "!"), "a question or exclamation mark"),
    "dash": (_is_one_of("-", "–", "—", "--", "---"), "a hyphen or dash"),
    "slash": (_is_one_of("/", "\\", "//"), "a slash"),
    "newline": (lambda s: "\n" in s, "holds a line break"),
    "whitespace": (str.isspace, "white space only"),
    "indentation": (_indentation, "white space that ends in two or more spaces or tabs"),
    "sentence-end": (lambda s: s.strip()[-1:] in {".", "!", "?"}, "ends in a full stop, ! or ?"),
    "open-bracket": (_holds("([{"), "holds an opening bracket"),
    "close-bracket": (_holds(")]}"), "holds a closing bracket"),
    "quote": (_holds("\"'“”‘’"), "holds a quotation mark or apostrophe"),
    "clitic": (lambda s: _CLITIC.fullmatch(s.strip()) is not None, "a clitic such as 's, n't, 'll"),
    "backtick": (_holds("`"), "holds a backtick"),
    "underscore": (_holds("_"), "holds an underscore"),
    "operator": (_holds("=+*/<>"), "holds one of = + * / < >"),
    "determiner": (_word_of(DETERMINERS), "a determiner such as the, a, this"),
    "preposition": (_word_of(PREPOSITIONS), "a preposition such as of, in, with"),
    "pronoun": (_word_of(PRONOUNS), "a pronoun such as it, she, which"),
    "auxiliary": (_word_of(AUXILIARIES), "an auxiliary verb such as is, was, can"),
    "conjunction": (_word_of(CONJUNCTIONS), "a conjunction or connective such as and, or, if"),
    **{name: (_word_of(frozenset(words.split())), meaning) for name, (words, meaning) in LEXICAL.items()},
    **{
        f"ends-{name}": (_ends_in(suffixes), f"letters that end in {_either(suffixes, '- ')}")
        for name, suffixes in SUFFIXES.items()
    },
    **{
        f"begins-{name}": (
            _begins_with(prefixes),
            f"a word that begins with {_either(prefixes, ' -')} and three letters more",
        )
        for name, prefixes in PREFIXES.items()
    },
}
"""Test of the surface and meaning of each class; an empty surface belongs to none."""
