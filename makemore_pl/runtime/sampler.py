"""`Sampler`: new names from an exported file."""

import math
import warnings
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from functools import cached_property, partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from makemore_pl.errors import NotExactError, RejectionWarning, RequestError, TooFewNamesError
from makemore_pl.exported.metadata import MODEL_FILE, SAMPLER_FILE, ModelInfo, find_model
from makemore_pl.options import takes
from makemore_pl.runtime import ways
from makemore_pl.runtime.engines import GraphSampler, NextCharacterModel, open_engine
from makemore_pl.runtime.request import IdRequest, Request, Wish
from makemore_pl.runtime.ways import Batch, Way

if TYPE_CHECKING:
    from makemore_pl.runtime.exact import Conditionals


class Sampler:
    """Draws names from an exported model. Needs NumPy and ONNX Runtime alone.

    A folder's `sampler.onnx` makes a whole batch of names in one call; `model.onnx` alone is sampled step by
    step, to the same names but for rounding. One sampler may be called from many threads at once. A pickled
    sampler opens its file at its first use: with `multiprocessing`, each process reads it for itself.

    Args:
        model: an exported ONNX file or an export's folder; None takes the newest under checkpoints/.
        prepare: compute the graph's tables once, when the file is opened, which takes a tenth of a second
            and pays from the fourth call on; False computes them at each call. Thousands of names at a time
            are drawn without them.

    Raises:
        ModelFileError: there is no such file, or it is not one of ours.

    Example:
        >>> Sampler("checkpoints/names").sample(3, seed=1)  # doctest: +SKIP
        ['kaylin', 'jorah', 'amelie']
    """

    def __init__(self, model: Path | str | None = None, *, prepare: bool = True) -> None:
        path = find_model(model, SAMPLER_FILE, MODEL_FILE)
        self._engine = open_engine(path, prepare)
        self._file: dict[str, Any] = {"path": path.absolute(), "prepare": prepare}

    @cached_property
    def _engine(self) -> NextCharacterModel | GraphSampler:
        return open_engine(**self._file)

    @property
    def info(self) -> ModelInfo:
        """The file's metadata."""
        return self._engine.info

    @cached_property
    def _conditionals(self) -> "Conditionals":
        from makemore_pl.runtime.exact import Conditionals, next_character_model

        return Conditionals(next_character_model(self._engine))

    @cached_property
    def _codepoints(self) -> NDArray[np.int32]:
        """(V,), of each id."""
        return self.info.vocabulary.token_codepoints

    def __getstate__(self) -> dict[str, Any]:
        # A copy opens its file at its first use, and not when it is unpickled: a process of a pool that fails
        # then is lost with its task, for which the caller would wait forever.
        return {"_file": self._file}

    @takes(Request)
    def sample(self, request: Request) -> list[str]:
        """Draw `n` names. Same options and seed, same names. The options are explained in `Request`.

        Texts are first brought into the spelling of the training names: `info.text_rules`.

        Raises:
            RequestError: an option out of its range, a label that the model does not have, or a wish that no
                name fulfils.
            VocabularyError: a text to be contained has a character that the model does not know.
            TooFewNamesError: `unique`, or a wish for which names are rejected, let too few through; it holds
                those found.
            MemoryLimitError: so many names are too many for a list; see `stream`.
        """
        request.require_memory()
        names = list(chain.from_iterable(batch.names for batch in self._start(request)))
        if len(names) < request.n:
            raise TooFewNamesError(request.n, len(names), names)
        return names

    @takes(Request)
    def stream(self, request: Request) -> Iterator[Batch]:
        """Draw the same names in batches, with their log-likelihoods.

        Takes no more memory for more names (but for `unique`, which must remember them). Ends early where
        `sample` raises TooFewNamesError; the other errors come at once, before the first batch, and so does
        a RejectionWarning where names that do not fulfil the wish must be rejected.
        """
        return self._start(request)

    @takes(Wish)
    def probability(self, wish: Wish) -> float:
        """Compute how likely a wish is: of a name, drawn with the same temperature, top-k and top-p.

        Lengths count, too: `min_length` is 1 if left out, and the name must end within `max_length`.

        Returns:
            Exact but for rounding; 0.0 for what is below the smallest float64, too.

        Raises:
            RequestError: an option out of its range, or a wish that no name fulfils.
            NotExactError: it cannot be computed; the message says why.
        """
        return math.exp(self._conditionals.of(wish).log_probability)

    @takes(Wish)
    def collision_probability(self, wish: Wish) -> float:
        """Compute how likely two names with a wish, drawn independently, are the same.

        Errors as `probability`.
        """
        return math.exp(self._conditionals.of(wish).log_collision())

    @takes(Wish)
    def n_names(self, wish: Wish) -> int | None:
        """Count the different names that can be drawn with a wish; None for more than 10^12.

        Errors as `probability`.
        """
        return self._conditionals.of(wish).n_names()

    @takes(IdRequest)
    def for_ids(self, request: IdRequest) -> list[str]:
        """Give every id a name, which depends on the model, the key, the wish and the id alone.

        docs/wishes.md says how, so that other programs can do the same. Where names must be rejected, that
        takes longer, and a RejectionWarning says so.

        Raises:
            RequestError: an option out of its range, or a wish that no name fulfils.
            TooFewNamesError: names must be rejected, and none fits; it holds the names of the ids before.
        """
        from makemore_pl.wishes.id_uniforms import IdUniforms, uniforms_of_attempt

        wish, ids = request.wish().spelled(self.info.text_rules), list(request.ids)
        names: list[str] = []
        try:
            given = self._conditionals.of(wish)
        except NotExactError as error:
            warnings.warn(f"names are drawn and rejected: {error}", RejectionWarning, stacklevel=3)
            way = ways.rejecting(self._engine, wish)
            for text in ids:  # one at a time: how many are computed together may change the logits' rounding
                uniforms = partial(uniforms_of_attempt, text, request.key, way.steps)
                name = way.first(uniforms)
                if name is None:
                    raise TooFewNamesError(len(ids), len(names), names) from error
                names.append(name)
            return names
        most = ways.exact(given, self._codepoints).most
        for start in range(0, len(ids), most):
            some = ids[start : start + most]
            tokens, _ = given.draw(len(some), IdUniforms(some, request.key))
            names += ways.to_text(self._codepoints[tokens])
        return names

    def way(self, wish: Wish) -> Way:
        """How names of a kind are drawn, none of them rejected; errors as `probability`."""
        wish = wish.spelled(self.info.text_rules)
        if wish.is_plain:
            return ways.plain(self._engine, wish)
        return ways.exact(self._conditionals.of(wish), self._codepoints, wish.label)

    def _start(self, request: Request) -> Iterator[Batch]:
        request = request.spelled(self.info.text_rules)
        if request.unique:
            request.expect_so_many_different(self.info)
        way = self._way_or_rejecting(request)
        if not request.unique:
            return way.batches(request.n, request.seed)

        def others(seen: set[str]) -> Way | None:
            with suppress(NotExactError):
                novel = seen.union(request.novel or ())
                return None if request.is_plain else self.way(replace(request.wish(), novel=novel))
            return None

        return ways.different(way, request.n, request.seed, others)

    def _way_or_rejecting(self, request: Request) -> Way:
        wish = request.wish()
        try:
            self._expect_enough(request, wish)
            return self.way(wish)
        except NotExactError as error:
            message = f"names are drawn and rejected: {error}"
            warnings.warn(message, RejectionWarning, stacklevel=5)
        rest = replace(wish, match=None)
        if wish.match is not None and not rest.is_plain:  # then names are rejected for `match` alone
            with suppress(NotExactError):
                self._expect_enough(request, rest)
                return replace(self.way(rest), accept=wish.accepts)
        return ways.rejecting(self._engine, wish)

    def _expect_enough(self, request: Request, wish: Wish) -> None:
        n_names = self._conditionals.of(wish).n_names() if request.unique and not wish.is_plain else None
        if n_names is not None and n_names < request.n:
            raise RequestError(f"{n_names:,} different names fulfil the wish; {request.n:,} are asked for")
