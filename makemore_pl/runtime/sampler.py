"""`Sampler`: new names from an exported file."""

import math
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from makemore_pl.errors import ModelFileError, RequestError
from makemore_pl.memory import require_memory
from makemore_pl.runtime.decoding import Decoding
from makemore_pl.runtime.engines import NO_NUMBERS, open_engine, resolve_sampler
from makemore_pl.runtime.metadata import MAX_LENGTH

BATCH_DRAWS = 1 << 21
"""Uniforms drawn at a time: bounds the memory of one batch, whatever n is."""
PATIENCE = 100_000
"""Draws in a row without an acceptable name after which a filtered request is given up."""
MANY_NAMES = 100_000
"""Fewer names fit everywhere: their memory is not worth an estimate."""
BYTES_PER_NAME = 128
"""A name in a list or set, with the list's or set's own share."""


class Batch(NamedTuple):
    """Names, and their log-likelihoods in nats under the plain model, boundary included."""

    names: list[str]
    log_probs: list[float]


class TooFewNamesError(RequestError):
    """Fewer names passed the filters than were wished for; `names` holds those found, if they were kept."""

    exit_code = 1

    def __init__(self, wished: int, found: int, names: Sequence[str] = ()) -> None:
        super().__init__(
            f"found {found:,} of {wished:,} names: "
            f"{PATIENCE:,} draws in a row brought no other that fits the request"
        )
        self.names = names


@dataclass(frozen=True, kw_only=True)
class SampleOptions(Decoding):
    """What `Sampler.sample` takes besides the number of names; see there.

    Raises:
        RequestError: a value out of its range.
    """

    seed: int | None = None
    prefix: str = ""
    max_length: int | None = None
    unique: bool = False
    novel: Collection[str] | None = None
    match: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.seed is not None and self.seed < 0:
            raise RequestError(f"the seed must be at least 0, not {self.seed}")
        if self.max_length is not None:
            if not 1 <= self.max_length <= MAX_LENGTH:
                raise RequestError(f"max-length must be from 1 to {MAX_LENGTH:,}, not {self.max_length}")
            if self.max_length < self.min_length:
                raise RequestError(f"max-length ({self.max_length}) is below min-length ({self.min_length})")
            if self.max_length < len(self.prefix):
                raise RequestError(
                    f"max-length ({self.max_length}) is shorter than the prefix {self.prefix!r}"
                )
        elif max(self.min_length, len(self.prefix)) > MAX_LENGTH:
            raise RequestError(f"min-length and the prefix may reach {MAX_LENGTH:,} characters at most")

    def name_filter(self) -> Callable[[str], bool] | None:
        """A predicate that applies `unique`, `novel` and `match`, or None where nothing is to be filtered.

        Raises:
            RequestError: `match` is no regular expression.
        """
        if not self.unique and self.novel is None and self.match is None:
            return None
        try:
            pattern = re.compile(self.match or "")
        except (re.error, OverflowError, RecursionError) as error:
            raise RequestError(
                f"match: {(self.match or '')[:60]!r} is no regular expression ({error})"
            ) from error
        known = frozenset(self.novel or ())
        seen: set[str] = set()

        def accept(name: str) -> bool:
            if name in known or name in seen or pattern.search(name) is None:
                return False
            if self.unique:
                seen.add(name)
            return True

        return accept


class Sampler:
    """Draws names from an exported model. Needs NumPy and ONNX Runtime alone.

    A folder's `sampler.onnx` makes a whole batch of names in one call; `model.onnx` alone is sampled step by
    step, to the same names but for rounding. One sampler may be called from many threads at once.

    Args:
        model: an exported ONNX file or an export's folder; None takes the newest under checkpoints/.
        prepare: compute the sampler's tables once, when the file is opened, which takes a tenth of a second
            and pays from the fourth call on; False computes them at each call.

    Raises:
        ModelFileError: there is no such file, or it is not one of ours.

    Example:
        >>> Sampler("checkpoints/names").sample(3, seed=1)  # doctest: +SKIP
        ['kaylin', 'jorah', 'amelie']
    """

    def __init__(self, model: Path | str | None = None, *, prepare: bool = True) -> None:
        self._engine = open_engine(resolve_sampler(model), prepare)
        self.info = self._engine.info

    def sample(self, n: int = 20, **options: Any) -> list[str]:
        """Draw `n` names. Same options and seed, same names.

        Args:
            n: how many.
            seed: of the uniform draws; None (default) takes a fresh one.
            temperature: below 1 more usual names, above 1 stranger ones; 0 the likeliest character each time.
            top_k: draw among the k likeliest characters only; 0 (default) among all.
            top_p: draw among the likeliest characters that together reach p; 1 (default) among all.
            prefix: how every name starts.
            min_length: fewest characters of a name, the prefix included; 1 by default.
            max_length: most characters; a longer name is cut. By default twice the longest training name.
            unique: no name twice.
            novel: names that must not come out, the training list, say.
            match: a regular expression that must be found in a name (`re.search`).

        Raises:
            RequestError: an option out of its range.
            VocabularyError: the prefix has a character that the model does not know.
            TooFewNamesError: the filters let too few names through; it holds those found.
            MemoryLimitError: so many names are too many for a list; see `stream`.
        """
        if n > MANY_NAMES:
            require_memory(n * BYTES_PER_NAME, f"{n:,} names of about {BYTES_PER_NAME} bytes")
        names = [name for batch in self.stream(n, **options) for name in batch.names]
        if len(names) < n:
            raise TooFewNamesError(n, len(names), names)
        return names

    def stream(self, n: int = 20, **options: Any) -> Iterator[Batch]:
        """The same names in batches, with their log-likelihoods, in memory that does not grow with `n`
        (but for `unique`, which must remember names). Ends early where `sample` raises TooFewNamesError;
        the other errors come at once, before the first batch.
        """
        request = SampleOptions(**options)
        if n < 0:
            raise RequestError(f"the number of names must be at least 0, not {n}")
        if request.unique and n > MANY_NAMES:
            require_memory(n * BYTES_PER_NAME, f"{n:,} different names of about {BYTES_PER_NAME} bytes")
        if request.prefix:
            p, v = len(request.prefix), len(self.info.characters) + 1
            require_memory(24 * p * v, f"prefix: {p:,} characters × {v:,} log-likelihoods × 24 bytes")
        prefix = self.info.vocabulary.encode(request.prefix)
        return self._batches(n, prefix, request, request.name_filter())

    def _batches(
        self, n: int, prefix: NDArray[np.int64], request: SampleOptions, accept: Callable[[str], bool] | None
    ) -> Iterator[Batch]:
        longest = request.max_length or max(2 * self.info.longest_name, request.min_length, len(prefix))
        steps = longest - len(prefix)
        generator = np.random.default_rng(request.seed)
        most = max(1, BATCH_DRAWS // max(1, steps))
        missing = n
        fruitless = 0  # draws since the last accepted name
        while missing > 0 and fruitless < PATIENCE:
            # A filter lets only some through: a surplus meets most requests in the first round.
            size = min(most, missing if accept is None else max(1_000, 2 * missing))
            # A row a name: a seed's first names are the same, however many are asked for.
            uniforms = generator.random((size, steps), dtype=np.float32)
            codepoints, log_probs = self._engine.generate(uniforms, prefix, request)
            if math.isnan(log_probs.sum()):
                raise ModelFileError(NO_NUMBERS)
            batch = Batch(to_text(codepoints), log_probs.tolist())
            if accept is not None:
                kept = [i for i, name in enumerate(batch.names) if accept(name)][:missing]
                batch = Batch([batch.names[i] for i in kept], [batch.log_probs[i] for i in kept])
            missing -= len(batch.names)
            fruitless = 0 if batch.names else fruitless + size
            if batch.names:
                yield batch


def to_text(codepoints: NDArray[np.int32]) -> list[str]:
    """Rows of code points, 0 after the end, as texts: NumPy's own fixed-width texts end at the zeros."""
    n, length = codepoints.shape
    if length == 0:
        return [""] * n
    texts: list[str] = np.ascontiguousarray(codepoints).view(f"<U{length}")[:, 0].tolist()
    return texts
