"""Names and scores over HTTP are those of the commands; so are the errors."""

import json
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from helpers import RunCommand

from makemore_pl import Sampler, Scorer
from makemore_pl.cli import main
from makemore_pl.service.queries import OPTIONS

JSON = "application/json"


@pytest.mark.parametrize(
    "wish",
    [
        {},
        {"temperature": 0.7, "top_k": 5, "prefix": "a"},
        {"suffix": "a", "min_length": 4, "max_length": 8},
        {"contains": ["a", "e"], "without": "x", "banned": ["nn", "ll"], "novel": ["emma"]},
        {"unique": "true", "n": 50},
        {"n": 3_000},
    ],
)
def test_same_seed_same_names_as_the_command(
    server: Any, run_folder: Path, makemore: RunCommand, tmp_path: Path, wish: dict[str, Any]
) -> None:
    query = {"n": 7, "seed": 3, **wish}
    args: list[str] = []
    for name, value in query.items():
        flag = "-n" if name == "n" else f"--{name.replace('_', '-')}"
        if name == "unique":
            args += [flag]
        elif name in ("banned", "novel"):
            (tmp_path / name).write_text("\n".join(value))
            args += [flag, str(tmp_path / name)]
        else:
            args += [
                part for one in (value if isinstance(value, list) else [value]) for part in (flag, str(one))
            ]
    command = makemore("sample", run_folder, *args, "--format", "json")
    assert command.code == 0, command.err
    expected = json.loads(command.out)
    answer = server.get("/names", params=query)
    assert answer.headers["content-type"] == JSON
    assert answer.json() == expected
    lines = server.get("/names", params={**query, "format": "ndjson"}).text.splitlines()
    assert [json.loads(line) for line in lines] == expected
    text = server.get("/names", params=query, headers={"accept": "text/plain;q=1, application/json"})
    assert text.text == "".join(f"{row['name']}\n" for row in expected)


@pytest.mark.slow
def test_names_without_a_seed_are_each_handed_out_once(server: Any, run_folder: Path) -> None:
    """A kind with few names: each comes as often as it should."""
    wish = {"min_length": 3, "max_length": 3, "suffix": "a"}
    names = [row["name"] for _ in range(300) for row in server.get("/names", params={**wish, "n": 5}).json()]
    assert len(names) == 1_500
    assert all(len(name) == 3 and name.endswith("a") for name in names)
    expected = Sampler(run_folder).sample(1_500, seed=0, **wish)  # type: ignore[arg-type]
    for name in set(expected):
        share, other = names.count(name), expected.count(name)
        assert abs(share - other) < 6 * (share + other + 1) ** 0.5  # fails by chance once in 10^7 runs


def test_ids_have_the_names_that_the_command_gives_them(server: Any, run_folder: Path) -> None:
    ids = ["user-1", "user-Ω", "", "a\tb"]
    for key in ("", "secret"):
        expected = Sampler(run_folder).for_ids(ids, key=key, suffix="a")
        answer = server.get("/names", params={"ids": ids, "key": key, "suffix": "a"})
        assert answer.json() == [{"id": i, "name": name} for i, name in zip(ids, expected, strict=True)]
    assert server.get("/names", params={"ids": "u", "format": "text"}).text.startswith("u\t")


def test_the_model_of_a_link_is_compared(server: Any) -> None:
    served = server.get("/health").json()["model"]
    assert server.get("/names", params={"model": served}).status_code == 200
    refused = server.get("/names", params={"model": "0123"})
    assert refused.status_code == 400
    assert served in refused.json()["detail"]


def test_scores(server: Any, run_folder: Path) -> None:
    names = ["emma", "xqzw", "ö", "a\udc80"]
    expected = Scorer(run_folder).score(names)
    columns = ("name", "log_prob", "per_character", "perplexity", "unknown")
    rows = [{column: getattr(score, column) for column in columns} for score in expected]
    body = json.dumps(names)
    posted = server.client.post("/score", content=body, headers={"content-type": JSON})
    assert json.loads(posted.content) == rows
    assert server.get("/score", params={"name": names[:3]}).json() == rows[:3]
    text = "\r\n".join(["\ufeffemma", "", " xqzw ", "ö"]).encode()
    posted = server.client.post("/score?format=ndjson", content=text, headers={"content-type": "text/plain"})
    assert [json.loads(line) for line in posted.text.splitlines()] == rows[:3]
    many = names[:2] * 30_000
    posted = server.client.post("/score", json=many)
    assert [row["log_prob"] for row in posted.json()] == [row["log_prob"] for row in rows[:2]] * 30_000


BAD = [
    "temperature=nan",
    "temperature=-1",
    "temperature=warm",
    "top_p=0",
    "top-p=1.5",
    "top_k=-1",
    "n=-1",
    "n=1.5",
    "n=" + "9" * 5_000,
    "seed=-3",
    "max_length=0",
    "max_length=99999999",
    "min_length=9&max_length=3",
    "prefix=%C3%B6",
    "prefix=" + "a" * 20_00 + "&max_length=7",
    "suffix=%00",
    "match=(",
    "match=%5Ezzzzzzzz%24&without=z",
    "contains=a&without=a",
    "key=secret",
    "ids=u&seed=1",
    "ids=u&key=" + "k" * 65,
    "unique=true&n=1000&temperature=0",
]


@pytest.mark.parametrize("query", BAD, ids=lambda query: query[:30])
def test_an_error_is_the_commands_own_sentence(
    server: Any, run_folder: Path, makemore: RunCommand, tmp_path: Path, query: str
) -> None:
    from urllib.parse import parse_qsl

    args: list[str] = []
    for name, value in parse_qsl(query):
        if name == "ids":
            (tmp_path / "ids").write_text(value)
            value = str(tmp_path / "ids")
        flag = "-n" if name == "n" else f"--{name.replace('_', '-')}"
        args += [flag] if name == "unique" else [f"{flag}={value}" if len(flag) > 2 else f"{flag}{value}"]
    command = makemore("sample", run_folder, *args)
    assert command.code in (1, 2)
    sentence = command.err.splitlines()[-1].removeprefix("makemore: error: ")
    answer = server.get(f"/names?{query}")
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json() == {"status": 400, "title": "Bad Request", "detail": sentence}


def test_openapi_names_every_option_of_the_command_with_its_limits(
    server: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    document = server.get("/openapi.json").json()
    described = {p["name"]: p for p in document["paths"]["/names"]["get"]["parameters"]}
    with pytest.raises(SystemExit):
        main(["sample", "--help"])
    help_text = capsys.readouterr().out
    assert set(described) == {*OPTIONS, "format", "model"}
    for name in OPTIONS:
        assert (f"-{name} " if len(name) == 1 else f"--{name.replace('_', '-')}") in help_text
    assert described["top_p"]["schema"] == {
        "type": "number",
        "exclusiveMinimum": 0,
        "maximum": 1,
        "default": 1.0,
    }
    assert described["n"]["schema"] == {"type": "integer", "minimum": 0, "maximum": 1_000_000, "default": 20}
    assert described["contains"]["schema"] == {"type": "array", "items": {"type": "string"}}
    for name, parameter in described.items():
        limit = parameter["schema"].get("maximum")
        if limit is not None:
            assert server.get("/names?" + urlencode({name: 2 * int(limit)})).status_code == 400


def test_the_page_and_its_files(server: Any, run_folder: Path) -> None:
    page = server.get("/")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.headers["content-security-policy"] == "frame-ancestors 'none'"
    assert "Content-Security-Policy" in page.text
    model = server.get("/sampler.onnx?v=1")
    assert model.content == (run_folder / "sampler.onnx").read_bytes()
    again = server.get("/sampler.onnx", headers={"if-none-match": model.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert server.get("/model.onnx").status_code == 404
    assert server.get("/..%2f..%2fbest.ckpt").status_code == 404
