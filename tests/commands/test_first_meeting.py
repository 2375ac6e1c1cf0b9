"""The calls that come naturally, and what is said when one is mistyped."""

import sys
from pathlib import Path

import pytest
from helpers import QUICK, RunCommand, in_a_process

import makemore_pl
from makemore_pl.commands.training_commands import natural
from makemore_pl.parsing.help_texts import known_options, short_help, with_suggestion


def test_help_in_words(makemore: RunCommand) -> None:
    assert makemore("help").out == makemore("--help").out
    assert makemore("help", "sample").out == makemore("sample", "--help").out


def test_the_first_screen_of_fit_shows_its_own_options_and_examples(makemore: RunCommand) -> None:
    first, full = makemore("fit", "--help").out, makemore("fit", "--help", "all").out
    assert first.count("makemore fit ") > 3
    assert len(first.splitlines()) < 70 < len(full.splitlines())
    own = {
        option for option in known_options(full) if option.startswith(("--data.", "--model.", "--export."))
    }
    assert own <= set(known_options(first))
    assert "--trainer.max_steps" in first
    assert "--trainer.benchmark" not in first
    assert "--trainer.benchmark" in full


def test_short_help_takes_the_first_sentence_and_the_default() -> None:
    full = (
        "usage:\n\noptions:\n"
        "  --data.path PATH      a list; more words. (type: str, default: names)\n"
        "  --data.labels LABELS, --data.labels+ LABELS\n"
        "                        labels; more words. (type: str)\n"
        "  --other X  y\n"
    )
    lines = [line for line in short_help("fit", full).splitlines() if line.startswith("  --")]
    assert [line.split() for line in lines] == [
        ["--data.path", "a", "list,", "one", "name", "per", "line,", "or", "a", "table", "(names)"],
        ["--data.labels", "labels"],
    ]


@pytest.mark.parametrize(
    ("args", "meant"),
    [
        (["smaple"], "sample"),
        (["exprot"], "export"),
        (["sample", "--temprature", "1"], "--temperature"),
        (["score", "--sorted"], "--sort"),
        (["fit", "--data.pth", "x"], "--data.path"),
        (["fit", "--model.n_hiden", "3"], "--model.n_hidden"),
        (["export", "x.ckpt", "--frm", "mlp"], "--form"),
        (["report", "x.ckpt", "--sed", "1"], "--seed"),
    ],
)
def test_a_mistyped_word_is_recognised(makemore: RunCommand, args: list[str], meant: str) -> None:
    makemore(*args).fails_with(f"did you mean {meant}?")


@pytest.mark.parametrize("args", [["xyzzy"], ["sample", "--xyzzy"], ["fit", "--xyzzy", "1"]])
def test_nothing_is_suggested_for_a_word_like_no_other(makemore: RunCommand, args: list[str]) -> None:
    result = makemore(*args)
    assert result.code == 2
    assert "did you mean" not in result.err


@pytest.mark.parametrize(
    ("args", "meant"),
    [
        ([], []),
        (["a.txt", "--run", "x"], ["--data.path", "a.txt", "--run", "x"]),
        (["--run", "x", "a.txt", "--run=y"], ["--run", "x", "--data.path", "a.txt", "--run=y"]),
        (["--run=x", "a.txt"], ["--run=x", "--data.path", "a.txt"]),
        (["--run", "x"], ["--run", "x"]),
        (["--help", "all"], ["--help", "all"]),
    ],
)
def test_a_list_stands_before_or_after_options(args: list[str], meant: list[str]) -> None:
    assert natural("fit", args) == meant


def test_abbreviations_are_refused_everywhere(makemore: RunCommand) -> None:
    for args in (["fit", "--overw", "true"], ["sample", "--temp", "1"], ["export", "x.ckpt", "--out", "y"]):
        assert makemore(*args).code == 2
    assert with_suggestion("unrecognized arguments: --out", ["--output"]).endswith("did you mean --output?")


@pytest.mark.slow
def test_a_run_by_its_list_alone_and_its_folder_for_every_command(
    makemore: RunCommand, short_list: Path, cwd: Path
) -> None:
    (cwd / "towns.txt").write_bytes(short_list.read_bytes())
    result = makemore("fit", "towns.txt", "--quiet", *QUICK)
    assert (result.code, result.err) == (0, "")
    assert result.out.startswith("run:    checkpoints/towns\n")
    folder = "checkpoints/towns"
    makemore("test", folder).succeeds()
    makemore("validate", folder).succeeds()
    makemore("export", folder, "-o", "again").succeeds()
    makemore("verify", f"{folder}/model.onnx", folder).succeeds()
    makemore("report", folder).succeeds()
    makemore("fit", "--ckpt_path", folder, *QUICK[2:], "--trainer.max_epochs", 4).succeeds()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["fit", "nosuch.txt"], "nosuch.txt: No such file"),
        (["fit", "--config", "nosuch"], "no shipped configuration; there are best, deep"),
        (["test", "nosuch"], "nosuch: No such file"),
        (["test", "."], "holds neither best.ckpt nor last.ckpt"),
        (["test"], "--ckpt_path is needed"),
        *(([command], "no export found under checkpoints/") for command in ("sample", "score", "info")),
        (["train"], "no command 'train'"),
        (["export", "x.ckpt", "--form", "spiral"], "spiral"),
    ],
)
def test_what_is_missing_is_named_with_where_it_was_looked_for(
    makemore: RunCommand, cwd: Path, args: list[str], message: str
) -> None:
    makemore(*args).fails_with(message)


def test_a_callback_in_the_current_folder_is_found(
    makemore: RunCommand, short_list: Path, cwd: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    (cwd / "my_callback.py").write_text(
        "from lightning.pytorch import Callback\n"
        "class Mine(Callback):\n"
        "    def on_train_end(self, trainer, module): print('mine was called')\n"
    )
    result = makemore("fit", short_list, "--trainer.callbacks", "my_callback.Mine", *QUICK).succeeds()
    assert "mine was called" in result.out


def test_the_package_shows_what_there_is() -> None:
    assert dir(makemore_pl) == ["Sampler", "Scorer", "__version__"]


def test_a_missing_extra_names_commands_that_work() -> None:
    code = "import sys; sys.modules['torch'] = None\nfrom makemore_pl.cli import main\nmain(['fit', 'x.txt'])"
    done = in_a_process(sys.executable, "-c", code)
    done.fails_with("needs the package torch: pip install 'makemore-pl[train]', or in a clone:")
