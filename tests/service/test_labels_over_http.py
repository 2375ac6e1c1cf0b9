"""Names and scores of a label over HTTP, from a model that was trained on names with labels."""

from pathlib import Path
from typing import Any

import pytest
from helpers import QUICK

from makemore_pl import Sampler, Scorer
from makemore_pl.cli import main
from makemore_pl.data.lists import find_list

LABELS = ["girl", "böy"]


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("labelled")
    names = [name for name in find_list("names").names() if set(name) <= set("aeilmnr")][:300]
    rows = [f"{name},{LABELS[len(name) % 2]}" for name in names]
    (place / "list.csv").write_text("name,kind\n" + "\n".join(rows) + "\n", encoding="utf-8")
    columns = ["--data.name_column", "name", "--data.label_column", "kind", "--data.batch_size", "64"]
    options = ["--trainer.default_root_dir", str(place), "--run", "run", "--model.n_hidden", "24"]
    with pytest.raises(SystemExit) as end:
        main(["fit", "--data.path", str(place / "list.csv"), *columns, *options, *QUICK])
    assert end.value.code == 0
    return place / "run"


@pytest.mark.slow
def test_a_label_is_asked_for_or_told(start_server: Any, labelled: Path) -> None:
    server = start_server(labelled)
    sampler, names = Sampler(labelled), ["emma", "lina", "ö"]
    for wish in ({}, {"label": "böy"}, {"label": "girl", "suffix": "a"}):
        rows = server.get("/names", params={"n": 9, "seed": 1, **wish}).json()
        [batch] = sampler.stream(9, seed=1, **wish)  # type: ignore[arg-type]
        assert [(row["name"], row["log_prob"], row["label"]) for row in rows] == list(
            zip(*batch, strict=True)
        )
    assert len({row["label"] for row in server.get("/names", params={"n": 200, "seed": 1}).json()}) == 2
    for label in (None, "girl", "böy"):
        scores = Scorer(labelled, label=label).score(names)
        rows = server.get("/score", params={"name": names, **({"label": label} if label else {})}).json()
        assert [row["log_prob"] for row in rows] == [score.log_prob for score in scores]
        assert [row.get("label") for row in rows] == [score.label for score in scores]
    for path, words in (
        ("/names?label=dog", "label"),
        ("/score?name=a&label=dog", "label"),
        ("/score?name=a&label=girl&label=girl", "label may be given once"),
        ("/names?suffix=a", "choose a label"),
    ):
        refused = server.get(path)
        assert refused.status_code == 400
        assert words in refused.json()["detail"]
