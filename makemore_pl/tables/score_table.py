"""`ScoreTable`: how likely the names in a column of a table are."""

from pathlib import Path
from typing import Any

from makemore_pl.columns.arrow import arrow
from makemore_pl.exported.metadata import MODEL_FILE, find_model
from makemore_pl.runtime.scorer import Scorer
from makemore_pl.tables.table_function import TableFunction

SCORE_COLUMNS = ("log_prob", "per_character", "perplexity", "unknown")


class ScoreTable(TableFunction):
    """Adds the columns log_prob, per_character, perplexity (float64) and unknown (a text) to tables.

    They are null where there is no name, and the figures also where a name has characters that the model does
    not know, which then are in `unknown`.

    Args:
        model: a `model.onnx` or an export's folder; None takes the newest under checkpoints/.
        column: the names.

    Raises:
        ModelFileError: there is no such file, or it is not one of ours.
        MissingPackageError: pyarrow is not installed.

    Example:
        >>> score = ScoreTable("checkpoints/names")  # doctest: +SKIP
        >>> score(pa.table({"name": ["emma", None]}))  # doctest: +SKIP
    """

    def __init__(self, model: Path | str | None = None, column: str = "name") -> None:
        arrow()
        path = find_model(model, MODEL_FILE)
        super().__init__(path, Scorer(path).info, column)

    def fields(self) -> list[tuple[str, Any]]:
        """Names and Arrow types of the new columns."""
        pa = arrow()
        return [(name, pa.string() if name == "unknown" else pa.float64()) for name in SCORE_COLUMNS]

    def values(self, column: Any) -> list[Any]:
        """The new columns' Arrow arrays, for a column of names."""
        scores = self._opened(Scorer).columns(column)
        return [
            arrow().array(getattr(scores, name), kind, from_pandas=True)  # NaN becomes null
            for name, kind in self.fields()
        ]
