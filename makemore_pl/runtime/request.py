"""What can be asked of a sampler: each option is declared here or in `Decoding`, and nowhere else."""

import re
from collections.abc import Collection, Sequence
from dataclasses import KW_ONLY, dataclass, fields, replace
from typing import TYPE_CHECKING, Any, TypeVar

from makemore_pl.errors import RequestError
from makemore_pl.exported.metadata import MAX_LENGTH, ModelInfo
from makemore_pl.memory import require_memory
from makemore_pl.options import REQUIRED, option
from makemore_pl.runtime.decoding import Decoding
from makemore_pl.text import PLAIN, TextRules
from makemore_pl.vocabulary import Vocabulary

if TYPE_CHECKING:
    from makemore_pl.wishes.automata import Automaton

MANY_NAMES = 100_000
"""Fewer names fit everywhere."""
BYTES_PER_NAME = 128
"""A name in a list, with the list's own share."""
Self = TypeVar("Self", bound="Wish")
MAX_KEY_BYTES = 64
"""Longest key of BLAKE2b."""


@dataclass(frozen=True, kw_only=True)
class Wish(Decoding):
    """Which kind of names: the options of `Sampler.probability`, and part of all others.

    Raises:
        RequestError: a value out of its range, or values that exclude each other.
    """

    label: str | None = option(
        None, "only names of this label; if left out, each name's is drawn by the labels' shares in training"
    )
    prefix: str = option("", "how every name starts")
    suffix: str = option("", "how every name ends")
    contains: Sequence[str] = option((), "a text in every name", metavar="TEXT")
    without: str = option("", "characters that no name has", metavar="CHARACTERS")
    banned: Collection[str] | None = option(None, "texts that occur nowhere in a name")
    max_length: int | None = option(
        None,
        "most characters; longer names are cut or, where there are other wishes, not drawn; "
        "twice the longest training name if left out",
        at_least=1,
        at_most=MAX_LENGTH,
    )
    match: str | None = option(None, "only names in which this regular expression is found", metavar="REGEX")
    novel: Collection[str] | None = option(None, "none of these names, the training list, say")

    def __post_init__(self) -> None:
        super().__post_init__()
        # Copies, which can be compared with those of later requests, and which nobody changes.
        if self.contains != ():
            texts = [self.contains] if isinstance(self.contains, str) else self.contains
            object.__setattr__(self, "contains", tuple(texts))
        for name in ("banned", "novel"):
            if (texts := getattr(self, name)) is not None:
                expect_several(name, texts)
                object.__setattr__(self, name, frozenset(texts))
        most = MAX_LENGTH if self.max_length is None else self.max_length
        if self.min_length > most:
            raise RequestError(f"max-length ({most:,}) is below min-length ({self.min_length:,})")
        for name in ("prefix", "suffix"):
            if len(getattr(self, name)) > most:
                raise RequestError(
                    f"max-length ({most:,}) is shorter than the {name} {getattr(self, name)!r:.60}"
                )
        try:
            if self.match is not None:
                re.compile(self.match)
        except (re.error, OverflowError, RecursionError) as error:
            raise RequestError(f"match: {self.match!r:.60} is no regular expression ({error})") from error

    def spelled(self: Self, rules: TextRules) -> Self:
        """The same request, its texts in the spelling of the training names."""
        if rules == PLAIN:
            return self
        changes = {
            "label": None if self.label is None else rules.spelled(self.label),
            "prefix": rules.prefix(self.prefix),
            "suffix": rules.part(self.suffix),
            "contains": tuple(map(rules.part, self.contains)),
            "without": rules.part(self.without),
            "banned": None if self.banned is None else frozenset(map(rules.part, self.banned)),
            "novel": None if self.novel is None else frozenset(map(rules.name, self.novel)),
        }
        changed: dict[str, Any] = {name: new for name, new in changes.items() if new != getattr(self, name)}
        return replace(self, **changed) if changed else self

    def wish(self) -> "Wish":
        """The options of a wish alone, without what a request adds to them."""
        return Wish(**{f.name: getattr(self, f.name) for f in fields(Wish)})

    @property
    def is_plain(self) -> bool:
        """True where `sampler.onnx` itself can do it: a beginning and lengths, nothing else."""
        others = (self.suffix, self.contains, self.without)
        return not any(others) and self.banned is None and self.match is None and self.novel is None

    def steps(self, longest_name: int) -> int:
        """The most characters of a name.

        Args:
            longest_name: characters of the longest training name.
        """
        texts = [self.prefix, self.suffix, *self.contains]
        return self.max_length or max(2 * longest_name, self.min_length, *map(len, texts))

    def automaton(self, vocabulary: Vocabulary) -> "Automaton":
        """All that is wished but the lengths, as one automaton.

        Raises:
            VocabularyError: a text to be contained has a character that the model does not know.
            NotExactError: there is no such automaton, or a too large one.
        """
        from makemore_pl.wishes import automata

        parts = [automata.uses_none_of(self.without, vocabulary)]
        if self.prefix:
            parts.append(automata.starts_with(self.prefix, vocabulary))
        if self.suffix:
            parts.append(automata.ends_with(self.suffix, vocabulary))
        parts += [automata.contains(text, vocabulary) for text in self.contains]
        if self.match is not None:
            from makemore_pl.wishes.regular_expressions import found_in

            parts.append(found_in(self.match, vocabulary))
        if self.banned is not None:
            parts.append(automata.avoids(self.banned, vocabulary))
        if self.novel is not None:
            parts.append(automata.differs_from(self.novel, vocabulary))
        return automata.intersection(parts)

    def accepts(self, name: str) -> bool:
        """Tell whether a name fulfils the wish but for `max_length`."""
        return (
            len(name) >= self.min_length
            and name.startswith(self.prefix)
            and name.endswith(self.suffix)
            and all(text in name for text in self.contains)
            and not set(self.without) & set(name)
            and re.search(self.match or "", name) is not None
            and name not in (self.novel or ())
            and not any(text in name for text in self.banned or ())
        )


@dataclass(frozen=True)
class Request(Wish):
    """How many names, and of which kind: the options of `Sampler.sample` and of `makemore sample`."""

    n: int = option(20, "how many names", at_least=0)
    _: KW_ONLY
    seed: int | None = option(None, "same seed, same names; a new one if left out", at_least=0)
    unique: bool = option(False, "no name twice")

    def require_memory(self) -> None:
        """Refuse more names than memory holds.

        Raises:
            MemoryLimitError: with the arithmetic.
        """
        if self.n > MANY_NAMES:
            require_memory(self.n * BYTES_PER_NAME, f"{self.n:,} names of about {BYTES_PER_NAME} bytes")

    def expect_so_many_different(self, info: ModelInfo) -> None:
        """Refuse more different names than there are texts of their length, or than memory holds.

        Args:
            info: of the model, for its characters and the longest name.

        Raises:
            RequestError, MemoryLimitError: with the number.
        """
        longest, begun = self.steps(info.longest_name), len(self.prefix)
        texts = 0
        for length in range(max(self.min_length, begun), longest + 1):
            texts += len(info.characters) ** (length - begun)
            if texts >= self.n:
                return self.require_memory()
        raise RequestError(
            f"there are only {texts:,} texts of {self.min_length:,} to {longest:,} characters "
            f"for {self.n:,} different names"
        )


@dataclass(frozen=True)
class IdRequest(Wish):
    """A name for each id: the options of `Sampler.for_ids` and of `makemore sample --ids`."""

    ids: Collection[str] = option(REQUIRED, "an id a line: each gets a name of its own, always the same")
    _: KW_ONLY
    key: str = option("", "with another key, other names for the ids")

    def __post_init__(self) -> None:
        super().__post_init__()
        expect_several("ids", self.ids)
        if len(self.key.encode("utf-8", "surrogatepass")) > MAX_KEY_BYTES:
            raise RequestError(f"key must have at most {MAX_KEY_BYTES} bytes in UTF-8")


def expect_several(name: str, texts: Collection[str]) -> None:
    """Check that an option holds texts, and is not one, whose characters would be taken for them.

    Raises:
        RequestError: it is one text.
    """
    if isinstance(texts, str):
        raise RequestError(f"{name}: several texts are needed, not the text {texts!r:.60}")
