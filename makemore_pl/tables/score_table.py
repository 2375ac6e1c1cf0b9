"""`ScoreTable`: how likely the names in a column of a table are."""

from pathlib import Path
from typing import Any

from makemore_pl.exported.metadata import MODEL_FILE, find_model
from makemore_pl.scoring.arrow import arrow
from makemore_pl.scoring.scorer import Scorer
from makemore_pl.tables.table_function import TableFunction, expect_label_source

LABEL_COLUMNS = ("label", "label_probability")
"""Added if names have labels and none is given."""
SCORE_COLUMNS = ("log_prob", "per_character", "perplexity", "unknown")
TEXTS = ("unknown", "label")


class ScoreTable(TableFunction):
    """Adds the columns log_prob, per_character, perplexity (float64) and unknown (a text) to tables.

    They are null where there is no name, and the figures also where a name has characters that the model does
    not know, which then are in `unknown`. Where names have labels, and neither `label` nor `label_column` is
    given, the likeliest label (a text) and label_probability (float64) are added, too.

    Args:
        model: a `model.onnx` or an export's folder; None takes the newest under checkpoints/.
        column: the names.
        label: of all names.
        label_column: the label of each name; figures are null in rows without one.

    Raises:
        ModelFileError: there is no such file, or it is not one of ours.
        RequestError: the model has no such label, or none at all.
        MissingPackageError: pyarrow is not installed.

    Example:
        >>> score = ScoreTable("checkpoints/names")  # doctest: +SKIP
        >>> score(pa.table({"name": ["emma", None]}))  # doctest: +SKIP
    """

    def __init__(
        self,
        model: Path | str | None = None,
        column: str = "name",
        *,
        label: str | None = None,
        label_column: str | None = None,
    ) -> None:
        arrow()
        path = find_model(model, MODEL_FILE)
        scorer = Scorer(path, label=label)
        expect_label_source(scorer.info, label, label_column)
        super().__init__(path, scorer.info, column, *([] if label_column is None else [label_column]))
        self._label = label
        self._guesses = scorer.guesses_labels and label_column is None

    def fields(self) -> list[tuple[str, Any]]:
        """Names and Arrow types of the new columns."""
        pa = arrow()
        names = SCORE_COLUMNS + LABEL_COLUMNS if self._guesses else SCORE_COLUMNS
        return [(name, pa.string() if name in TEXTS else pa.float64()) for name in names]

    def values(self, *columns: Any) -> list[Any]:
        """The new columns' Arrow arrays, for a column of names and, perhaps, of labels."""
        scores = self._opened(_open_scorer, self._label).columns(*columns)
        return [
            arrow().array(getattr(scores, name), kind, from_pandas=True)  # NaN becomes null
            for name, kind in self.fields()
        ]


def _open_scorer(path: Path, label: str | None) -> Scorer:
    return Scorer(path, label=label)
