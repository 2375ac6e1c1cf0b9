"""What can be asked of a sampler: each option is declared here or in `Decoding`, and nowhere else."""

import re
from collections.abc import Callable, Collection
from dataclasses import KW_ONLY, dataclass

from makemore_pl.errors import RequestError
from makemore_pl.runtime.decoding import Decoding
from makemore_pl.runtime.metadata import MAX_LENGTH
from makemore_pl.runtime.options import option


@dataclass(frozen=True)
class Request(Decoding):
    """How many names, and of which kind: the options of `Sampler.sample` and of `makemore sample`.

    Raises:
        RequestError: a value out of its range, or values that exclude each other.
    """

    n: int = option(20, "how many names", at_least=0)
    _: KW_ONLY
    seed: int | None = option(None, "same seed, same names; a new one if left out", at_least=0)
    prefix: str = option("", "how every name starts")
    max_length: int | None = option(
        None,
        "most characters, longer names are cut; twice the longest training name if left out",
        at_least=1,
        at_most=MAX_LENGTH,
    )
    match: str | None = option(None, "only names in which this regular expression is found", metavar="REGEX")
    unique: bool = option(False, "no name twice")
    novel: Collection[str] | None = option(None, "none of these names, the training list, say")

    def __post_init__(self) -> None:
        super().__post_init__()
        most = MAX_LENGTH if self.max_length is None else self.max_length
        if self.min_length > most:
            raise RequestError(f"max-length ({most:,}) is below min-length ({self.min_length:,})")
        if len(self.prefix) > most:
            raise RequestError(f"max-length ({most:,}) is shorter than the prefix {self.prefix!r:.60}")

    def name_filter(self) -> Callable[[str], bool] | None:
        """A predicate that applies `match`, `unique` and `novel`; None where every name is accepted.

        Raises:
            RequestError: `match` is no regular expression.
        """
        if self.match is None and not self.unique and self.novel is None:
            return None
        try:
            pattern = re.compile(self.match or "")
        except (re.error, OverflowError, RecursionError) as error:
            raise RequestError(f"match: {self.match!r:.60} is no regular expression ({error})") from error
        rejected = set(self.novel or ())

        def accept(name: str) -> bool:
            if name in rejected or pattern.search(name) is None:
                return False
            if self.unique:
                rejected.add(name)
            return True

        return accept
