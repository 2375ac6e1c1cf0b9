"""Names and scores of a label over HTTP, from a model that was trained on names with labels."""

from pathlib import Path
from typing import Any

import pytest

from makemore_pl import Sampler, Scorer


@pytest.mark.slow
def test_a_label_is_asked_for_or_told(start_server: Any, labelled_run: Path) -> None:
    server = start_server(labelled_run)
    sampler, names = Sampler(labelled_run), ["emma", "lina", "ö"]
    for wish in ({}, {"suffix": "a"}, {"label": "böy"}, {"label": "girl", "suffix": "a"}):
        rows = server.get("/names", params={"n": 9, "seed": 1, **wish}).json()
        [batch] = sampler.stream(9, seed=1, **wish)  # type: ignore[arg-type]
        assert [(row["name"], row["log_prob"], row["label"]) for row in rows] == list(
            zip(*batch, strict=True)
        )
    assert len({row["label"] for row in server.get("/names", params={"n": 200, "seed": 1}).json()}) == 3
    for label in (None, "girl", "böy"):
        scores = Scorer(labelled_run, label=label).score(names)
        rows = server.get("/score", params={"name": names, **({"label": label} if label else {})}).json()
        assert [row["log_prob"] for row in rows] == [score.log_prob for score in scores]
        assert [row.get("label") for row in rows] == [score.label for score in scores]
    for path, words in (
        ("/names?label=dog", "label"),
        ("/score?name=a&label=dog", "label"),
        ("/score?name=a&label=girl&label=girl", "label may be given once"),
    ):
        refused = server.get(path)
        assert refused.status_code == 400
        assert words in refused.json()["detail"]
