"""The structure of a regular expression, and the deterministic automaton that finds it.

An expression becomes a nondeterministic automaton (Thompson 1968), whose threads are followed all together,
one id after the other. Everything that looks around is one of two things. *Behind*: an automaton of its own,
which has read the name from its start. *Ahead*: an automaton that a thread takes along from there on, and
that must accept the rest of the name, too.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

MOST_STATES = 10_000
"""Of an expression's automata, nondeterministic or not: a second or two."""

MOST_WORK = 200_000
"""Places looked at meanwhile."""

Ids: TypeAlias = frozenset[int]


@dataclass(frozen=True)
class Sequence:
    """One part after the other; without parts, the empty text."""

    parts: tuple["Node", ...]


@dataclass(frozen=True)
class Choice:
    """Any of the options."""

    options: tuple["Node", ...]


@dataclass(frozen=True)
class Repeat:
    """The body several times."""

    body: "Node"
    least: int
    most: int | None


@dataclass(frozen=True)
class Look:
    """No characters, in a place before or behind which the body is found, or is not."""

    body: "Node"
    ahead: bool
    found: bool


Node: TypeAlias = Ids | Sequence | Choice | Repeat | Look


class UnsupportedError(Exception):
    """Something in an expression for which no automaton is made."""


def symbols_of(node: Node, n_ids: int) -> list[int]:
    """For each id from 1 on, the smallest that no part of the expression tells from it: far fewer."""
    sets = set(_ids_in(node))
    first: dict[frozenset[Ids], int] = {}
    return [first.setdefault(frozenset(s for s in sets if i in s), i) for i in range(1, n_ids)]


def _ids_in(node: Node) -> Iterator[Ids]:
    match node:
        case Sequence(nodes) | Choice(nodes):
            for inner in nodes:
                yield from _ids_in(inner)
        case Repeat(body) | Look(body):
            yield from _ids_in(body)
        case _:
            yield node


@dataclass(frozen=True)
class Machine:
    """A deterministic automaton over the symbols, with a next state for each. It starts in state 0."""

    table: list[list[int]]  # (S, symbols)
    accepts: list[bool]  # (S,)
    can_accept: list[bool]  # (S,): some continuation is accepted
    can_reject: list[bool]  # (S,): some continuation is not

    def complement(self) -> "Machine":
        return Machine(self.table, [not a for a in self.accepts], self.can_reject, self.can_accept)


Taken: TypeAlias = frozenset[tuple[int, int]]
"""What a thread takes along: automata that look ahead, by number, and their states."""
Thread: TypeAlias = tuple[int, Taken]
"""A place in the nondeterministic automaton, and what is taken along."""
State: TypeAlias = tuple[frozenset[Thread], tuple[int, ...]]
"""All threads, and the states of the automata that look behind."""


class Threads:
    """A nondeterministic automaton, and all of its threads followed at once.

    Args:
        node: the expression.
        symbols: what it reads.
        before: anything may stand before it.
        after: anything may stand after it.
    """

    def __init__(self, node: Node, symbols: list[int], *, before: bool, after: bool) -> None:
        self.symbols = symbols
        self.moves: list[list[tuple[Ids, int]]] = []  # of each place: over one of the ids, to another place
        self.skips: list[list[tuple[int | None, int]]] = []  # over nothing, where the look allows it
        self.looks: list[Look] = []
        self.machines: list[Machine] = []  # of the looks
        self.work = 0
        start, self.end = self.place(), self.place()
        for place in [start] * before + [self.end] * after:
            self.moves[place].append((frozenset(symbols), place))
        self.after = after
        self.add(node, start, self.end)

    def place(self) -> int:
        """Make a new place."""
        if len(self.moves) == MOST_STATES:
            raise UnsupportedError(f"more than {MOST_STATES:,} places")
        self.moves.append([])
        self.skips.append([])
        return len(self.moves) - 1

    def add(self, node: Node, start: int, end: int) -> None:
        """Add ways from `start` to `end` that read what the node stands for."""
        match node:
            case Sequence(parts):
                for part in parts:
                    middle = self.place()
                    self.add(part, start, middle)
                    start = middle
                self.skips[start].append((None, end))
            case Choice(options):
                for option in options:
                    self.add(option, start, end)
            case Repeat(body, least, most):
                for _ in range(least):
                    middle = self.place()
                    self.add(body, start, middle)
                    start = middle
                if most is None:
                    again = self.place()  # of its own: other ways may start at `start`
                    self.skips[start].append((None, again))
                    self.add(body, again, again)
                    start = again
                else:
                    for _ in range(most - least):
                        self.skips[start].append((None, end))
                        middle = self.place()
                        self.add(body, start, middle)
                        start = middle
                self.skips[start].append((None, end))
            case Look():
                self.skips[start].append((len(self.looks), end))
                self.looks.append(node)
                self.machines.append(self.look(node))
            case _:
                self.moves[start].append((node, end))

    def look(self, node: Look) -> Machine:
        """Make the automaton that decides whether a way over a look is open."""
        inner = Threads(node.body, self.symbols, before=not node.ahead, after=node.ahead)
        if any(look.ahead != node.ahead for look in inner.looks):
            raise UnsupportedError("a look ahead and one behind (^ and \\b look, too) inside each other")
        return inner.machine() if node.found else inner.machine().complement()

    def machine(self) -> Machine:
        """Make it deterministic: a state is all that the threads can be at."""
        behind = tuple(0 if not look.ahead else -1 for look in self.looks)
        states: list[State] = [self.closed([(0, frozenset())], behind)]
        number = {states[0]: 0}
        table = []
        for state in states:  # which grows meanwhile
            row = []
            for column, symbol in enumerate(self.symbols):
                after = self.step(state, column, symbol)
                if after not in number:
                    if len(states) == MOST_STATES:
                        raise UnsupportedError(f"more than {MOST_STATES:,} states")
                    number[after] = len(states)
                    states.append(after)
                row.append(number[after])
            table.append(row)
        accepts = [any(self.is_accepted(thread) for thread in threads) for threads, _ in states]
        rejects = [not accepted for accepted in accepts]
        return Machine(table, accepts, _that_lead_to(accepts, table), _that_lead_to(rejects, table))

    def step(self, state: State, column: int, symbol: int) -> State:
        """Have all threads read a symbol, the one of a column of the tables."""
        threads, behind = state
        moved = [
            (place, taken_on)
            for start, taken in threads
            for ids, place in self.moves[start]
            if symbol in ids and (taken_on := self.take_on(taken, column)) is not None
        ]
        tables = [machine.table for machine in self.machines]
        return self.closed(
            moved, tuple(-1 if s < 0 else table[s][column] for s, table in zip(behind, tables, strict=True))
        )

    def take_on(self, taken: Taken, column: int) -> Taken | None:
        """Have all that is taken along read a symbol; None where one can accept no more."""
        result = set()
        for i, state in taken:
            machine = self.machines[i]
            after = machine.table[state][column]
            if not machine.can_accept[after]:
                return None
            if machine.can_reject[after]:  # else it need not be asked any more
                result.add((i, after))
        return frozenset(result)

    def closed(self, threads: list[Thread], behind: tuple[int, ...]) -> State:
        """Follow all ways that read nothing. Of threads, those stay that have something left to read."""
        seen = set(threads)
        waiting = list(seen)
        while waiting:
            self.work += 1
            place, taken = waiting.pop()
            for look, target in self.skips[place]:
                thread = (target, taken)
                if look is not None:
                    machine = self.machines[look]
                    if not self.looks[look].ahead:
                        if not machine.accepts[behind[look]]:
                            continue
                    elif not machine.can_accept[0]:
                        continue
                    elif machine.can_reject[0]:
                        thread = (target, taken | {(look, 0)})
                if thread not in seen:
                    seen.add(thread)
                    waiting.append(thread)
        if self.work > MOST_WORK:
            raise UnsupportedError("too many ways to be followed at once")
        if self.after and (self.end, frozenset()) in seen:  # found, whatever comes
            return frozenset([(self.end, frozenset())]), (-1,) * len(behind)
        return frozenset(t for t in seen if t[0] == self.end or self.moves[t[0]]), behind

    def is_accepted(self, thread: Thread) -> bool:
        place, taken = thread
        return place == self.end and all(self.machines[i].accepts[state] for i, state in taken)


def _that_lead_to(wanted: list[bool], table: list[list[int]]) -> list[bool]:
    """Find the states from which a wanted one can be reached: bool (S,)."""
    before: list[list[int]] = [[] for _ in table]
    for state, row in enumerate(table):
        for after in row:
            before[after].append(state)
    leads = list(wanted)
    waiting = [state for state, is_wanted in enumerate(wanted) if is_wanted]
    while waiting:
        for state in before[waiting.pop()]:
            if not leads[state]:
                leads[state] = True
                waiting.append(state)
    return leads
