"""A regular expression, as Python's `re` reads it, as an automaton of the names in which it is found.

Only the structure is read here. `re` itself says which characters a class, an escape or a literal stands for,
so that both always agree.
"""

import re

import numpy as np

from makemore_pl.errors import NotExactError
from makemore_pl.vocabulary import Vocabulary
from makemore_pl.wishes.automata import DEAD, Automaton
from makemore_pl.wishes.threads import (
    Choice,
    Ids,
    Look,
    Node,
    Repeat,
    Sequence,
    Threads,
    UnsupportedError,
    symbols_of,
)


def found_in(pattern: str, vocabulary: Vocabulary) -> Automaton:
    """Names in which `pattern` is found, as by `re.search`.

    Raises:
        re.error: it is no regular expression.
        NotExactError: it is not regular (back-references), or is not supported here.
    """
    try:
        node = _Parser(pattern, vocabulary).whole()
        symbol_of = symbols_of(node, len(vocabulary))
        symbols = sorted(set(symbol_of))
        machine = Threads(node, symbols, before=True, after=True).machine()
    except RecursionError as error:
        raise NotExactError(f"match: {pattern!r:.60} is nested too deeply for an automaton") from error
    except UnsupportedError as error:
        raise NotExactError(f"match: {pattern!r:.60} has {error}") from error
    following = np.array(machine.table)[:, [symbols.index(symbol) for symbol in symbol_of]]  # (S, V - 1)
    following[~np.array(machine.can_accept)[following]] = DEAD
    boundary = np.full((len(following), 1), DEAD)
    return Automaton(np.concatenate([boundary, following], axis=1), np.array(machine.accepts))


class _Parser:
    """Recursive descent through an expression that `re` has accepted."""

    def __init__(self, pattern: str, vocabulary: Vocabulary) -> None:
        self.rest = pattern
        self.flags = re.compile(pattern).flags
        self.heads = ""  # of the groups around that set flags
        self.vocabulary = vocabulary
        if self.flags & re.VERBOSE:
            raise UnsupportedError("the flag x")

    def whole(self) -> Node:
        node = self.choice()
        assert not self.rest
        return node

    def take(self, regex: str) -> re.Match[str] | None:
        """Read on, if what follows is matched."""
        match = re.compile(regex, re.DOTALL).match(self.rest)
        if match:
            self.rest = self.rest[match.end() :]
        return match

    def choice(self) -> Node:
        options = [self.sequence()]
        while self.take(r"\|"):
            options.append(self.sequence())
        return Choice(tuple(options))

    def sequence(self) -> Node:
        parts = []
        while self.rest and self.rest[0] not in "|)":
            parts.append(self.repeated(self.atom()))
        return Sequence(tuple(parts))

    def repeated(self, body: Node) -> Node:
        if match := self.take(r"[*+?]"):
            least, most = int(match[0] == "+"), 1 if match[0] == "?" else None
        elif match := self.take(r"\{(?!\})(\d*)(,?)(\d*)\}"):
            least = int(match[1] or 0)
            most = int(match[3]) if match[3] else None if match[2] else least
        else:
            return body
        if self.take(r"\+"):
            raise UnsupportedError("a possessive repeat")
        self.take(r"\?")  # lazy: which match is found first makes no difference here
        return Repeat(body, least, most)

    def atom(self) -> Node:
        if self.take(r"\("):
            return self.group()
        if self.take(r"\^|\\A"):
            return Look(self.ids("(?s:.)"), ahead=False, found=False)
        if self.take(r"\$|\\[Zz]"):  # no name has a line end
            return Look(self.ids("(?s:.)"), ahead=True, found=False)
        if match := self.take(r"\\[bB]"):
            return self.word_edge(match[0] == r"\b")
        if self.take(r"\\(?!0|[0-3][0-7]{2})\d"):
            raise UnsupportedError("a back-reference, which is not regular")
        match = self.take(
            r"\[\^?\]?(?:\\.|[^\]\\])*\]|\\N\{[^}]*\}|\\x..|\\u.{4}|\\U.{8}|\\[0-7]{1,3}|\\.|\."
        )
        if match:
            return self.ids(match[0])
        literal, self.rest = self.rest[0], self.rest[1:]
        return self.ids(re.escape(literal))

    def ids(self, atom: str) -> Ids:
        """The characters that an expression of one character stands for, here, by `re` itself."""
        one = re.compile(self.heads + atom + ")" * self.heads.count("("), self.flags)
        characters = self.vocabulary.characters
        return frozenset(i for i, character in enumerate(characters, 1) if one.fullmatch(character))

    def group(self) -> Node:
        if self.take(r"\?#[^)]*\)|\?[aiLmsux]+\)"):  # a comment; flags of the whole, which are known
            return Sequence(())
        if self.take(r"\?P=|\?\("):
            raise UnsupportedError("a back-reference, which is not regular")
        if self.take(r"\?>"):
            raise UnsupportedError("an atomic group")
        heads = self.heads
        look = self.take(r"\?(<?)([=!])")
        if not look and not self.take(r"\?P<[^>]*>") and (head := self.take(r"\?[^:]*:")):
            if "x" in head[0].partition("-")[0]:
                raise UnsupportedError("the flag x")
            self.heads += f"({head[0]}"
        body = self.choice()
        self.take(r"\)")
        self.heads = heads
        return Look(body, ahead=not look[1], found=look[2] == "=") if look else body

    def word_edge(self, is_edge: bool) -> Node:
        """`\\b`, or `\\B`: a character of a word on one side alone, or on both or neither."""
        word, any_id = self.ids(r"\w"), self.ids("(?s:.)")
        both = [
            Sequence((Look(word, False, behind), Look(word, True, behind != is_edge)))
            for behind in (True, False)
        ]
        if is_edge or re.search(r"\B", ""):
            return Choice(tuple(both))
        # Before Python 3.14, \B was not found in the empty text.
        return Sequence((Choice(tuple(both)), Choice((Look(any_id, False, True), Look(any_id, True, True)))))
