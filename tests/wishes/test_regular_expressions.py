"""Automata of regular expressions against `re.search`, on all short names."""

import itertools
import re

import pytest
from helpers import accepted
from hypothesis import given, settings
from hypothesis import strategies as st

from makemore_pl.errors import NotExactError
from makemore_pl.vocabulary import Vocabulary
from makemore_pl.wishes.regular_expressions import found_in

CHARACTERS = " '1Baé"
VOCABULARY = Vocabulary(CHARACTERS)
NAMES = ["".join(name) for length in range(5) for name in itertools.product(CHARACTERS, repeat=length)]

EXPRESSIONS = r"""
a  ^a$  a*  (a*|B)é$  ^(a*|B)é$  a?  (?i)b  [^aB]  ^[^aB]+$  a{2,3}B  ^a{2}$  a{,2}B$  {  a{  a{}
a{,}B$  ^a{2,}B$  (?:a{2}){1,2}B  \bé\b  \Ba  \B  \b  ^\B$  \bB\B  (?=aB)a  ^(?!.*BB).*a  (?<=a)B  (?<!a)B
(?<!^)a  (?!a$)  ^(?=.*a)(?=.*B)(?!.*é)  a(?!$)  \w\s\w  \d$  \D\W  (?a:\w)$  (?P<x>a|B)+é
(?:aB)+?é$  (?i:b)a  (?-i:B)  a|  (?i:a(?-i:b)b)  |  ()  (a|B)*aBB$  (?#x)a  \x61B  \141B  \u00e9a
\U000000e9$  []a]B  [^]a]$  [\w']B$  [\d\s]{2}  ^.{3}$  ^(?:(?!aB).)*$  (?=a*$)B  (?<=aB|Bé)é  \Aa\Z
(^a|B$)  (^|B)a  a(B|$)  (?<=^a)B  (a?){3}B$  ^(a?B?){2}$  x  (?:){3}a  ^(?:aa|BBB)*$  (?=.*aB$)^é
(?=(?!a)B)B  (?m:^a$)  (?s:.)é  [a-é]$  \.  \'  (?:a|)+B  (?:a*)*B  (?:^|\s)a  a{0}B  (?:\b|a)B
(?:a|aB)(?:é|Bé)$  [\]a\[]B  (?i)[^b]$
"""


@pytest.mark.parametrize("pattern", [*EXPRESSIONS.split(), r"\N{LATIN SMALL LETTER A}B", r"a B", "(?i)É"])
def test_found_as_by_re(pattern: str) -> None:
    expected = [name for name in NAMES if re.search(pattern, name)]
    assert accepted(found_in(pattern, VOCABULARY), VOCABULARY, NAMES) == expected


def expressions() -> st.SearchStrategy[str]:
    atoms = st.sampled_from(["a", "B", ".", "[^a]", r"\w", r"\b", r"\B", "^", "$", ""])
    return st.recursive(
        atoms,
        lambda inner: st.one_of(
            st.tuples(inner, inner).map("".join),
            st.tuples(inner, inner).map("(?:{0[0]}|{0[1]})".format),
            st.tuples(inner, st.sampled_from(["*", "+?", "?", "{2}", "{,2}", "{1,}"])).map(
                "(?:{0[0]}){0[1]}".format
            ),
            st.tuples(st.sampled_from(["=", "!"]), inner).map("(?{0[0]}{0[1]})".format),
            st.sampled_from(["(?<=aB)", "(?<!.B)", r"(?<=\b.)", "(?<!^)"]),
        ),
        max_leaves=8,
    )


@settings(max_examples=300, deadline=None)
@given(expressions())
def test_any_expression(pattern: str) -> None:
    names = NAMES[::7]
    try:
        automaton = found_in(pattern, VOCABULARY)
    except NotExactError as error:
        if "inside each other" in str(error):
            return
        raise
    assert accepted(automaton, VOCABULARY, names) == [name for name in names if re.search(pattern, name)]


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        (r"(a)\1", "a back-reference, which is not regular"),
        ("(?P<q>a)(?P=q)", "a back-reference, which is not regular"),
        ("(a)?(?(1)B|é)", "a back-reference, which is not regular"),
        ("(?x) a", "the flag x"),
        ("(?x: a)", "the flag x"),
        (r"(?=\b)a", "inside each other"),
        ("a{20000}", "more than 10,000 places"),
        ("((a{100}){100}){100}", "more than 10,000 places"),
        ("a.{30}$", "more than 10,000 states|too many ways"),
        ("^((.{101})*|(.{103})*)$", "more than 10,000 states"),
        ("^(a?){2000}B", "too many ways"),
    ],
)
def test_what_has_no_automaton(pattern: str, why: str) -> None:
    with pytest.raises(NotExactError, match=why):
        found_in(pattern, VOCABULARY)


@pytest.mark.skipif("sys.version_info < (3, 11)", reason="Python 3.10 knows neither")
@pytest.mark.parametrize(
    ("pattern", "why"), [("a++B", "a possessive repeat"), ("(?>a|aB)B", "an atomic group")]
)
def test_newer_syntax_that_has_no_automaton(pattern: str, why: str) -> None:
    with pytest.raises(NotExactError, match=why):
        found_in(pattern, VOCABULARY)


def test_nested_as_deeply_as_re_allows() -> None:
    found_in("(" * 50 + "a" + ")" * 50, VOCABULARY)
    with pytest.raises((NotExactError, RecursionError), match=r"nested too deeply|recursion"):
        found_in("(" * 2_000 + "a" + ")" * 2_000, VOCABULARY)
