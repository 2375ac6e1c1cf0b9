"""Help that a person can read: the first screen of a long help, and a suggestion for a mistyped option."""

import difflib
import re
from collections.abc import Iterable, Iterator
from shutil import get_terminal_size
from textwrap import wrap

OWN = (
    *("run", "resume", "overwrite", "recalibrate", "data.", "model.", "checkpoint.", "export."),
    *("min_lr", "max_lr", "steps", "plot"),
)
"""Beginnings of this project's own options."""
OFTEN_USED = (
    "config",
    "print_config",
    "ckpt_path",
    "trainer.max_steps",
    "trainer.max_epochs",
    "trainer.accelerator",
    "trainer.devices",
    "trainer.precision",
)
"""Of all others, those that most people need."""
TEXTS = {
    "ckpt_path": "a checkpoint, a run's folder, or best or last of the newest run",
    "config": "a YAML file, or a shipped configuration by name: best, small-best, deep, makemore",
    "print_config": "print all options as YAML, and stop",
    "run": "name of the run's folder; by default the list's",
    "resume": "auto: resume the run if it has begun",
    "recalibrate": "take BatchNorm's statistics over the whole training set before each evaluation",
    "trainer.accelerator": "cpu, gpu, mps or auto",
    "trainer.devices": "how many",
    "trainer.precision": "32-true, bf16-mixed, 16-mixed, 64-true and others",
    "trainer.max_steps": "length of the run in steps; by default 300",
    "trainer.max_epochs": "length of the run in passes over the list",
    "model.n_embd": "width of a character's embedding",
    "model.n_hidden": "width of each hidden layer",
    "model.n_members": "networks side by side, whose logits are averaged",
    "model.warmup": "share of the steps on which the rate rises",
    "model.dropout": "share of activations zeroed in training",
    "model.init": "scheme of the initial weights",
    "data.path": "a list, one name per line, or a table",
    "data.batch_size": "contexts per step, over all devices",
    "data.eval_batch_size": "the same in evaluations",
    "data.dedupe": "keep each name once",
    "data.weight_power": "of weights in training, 0 to 1",
    "data.weighted_figures": "use weights in evaluations, too",
    "export.form": "mlp, fused, table or auto",
}
"""In place of longer texts."""
EXAMPLES = {
    "fit": (
        "makemore fit towns.txt                            train, export to checkpoints/towns/",
        "makemore fit --config best --data.path towns.txt  the lowest loss, in minutes",
        "makemore fit --ckpt_path last                     resume the newest run",
    ),
    "test": ("makemore test checkpoints/towns", "makemore test checkpoints/towns --data.path others.txt"),
}
INDENT = " " * 29
"""Stands below an option's name in a text of several lines."""
LEAST_WIDTH = 72
"""Of the help, in columns, however narrow the terminal."""


def short_help(command: str, full: str) -> str:
    """The first screen of a command's help, from the whole one as argparse formats it."""
    width = max(LEAST_WIDTH, get_terminal_size().columns - 2)  # as argparse has it
    lines = [f"usage: makemore {command} [options]", ""]
    if command in EXAMPLES:
        lines += [*(f"  {example}" for example in EXAMPLES[command]), ""]
    for name, text in _options(full):
        if name.startswith(OWN) or name in OFTEN_USED:
            sentence = TEXTS.get(name) or re.split(r"\.\s|; |: | \(type:|\.$", text)[0]
            default = re.search(r"default: ([\w./-]+)\)", text)
            shown = f" ({default[1]})" if default and name.startswith(OWN) and default[1] != "null" else ""
            lines += wrap(
                f"{sentence}{shown}",
                width=width,
                initial_indent=f"  --{name:<24} ",
                subsequent_indent=INDENT,
                break_on_hyphens=False,
            )
    lines += ["", "--quiet prints results and errors alone."]
    lines += [f"Everything else, all of Lightning's options too: makemore {command} --help all"]
    return "\n".join(lines)


def _options(full: str) -> Iterator[tuple[str, str]]:
    """Name and text of each option in a help."""
    pattern = r"^  (?:-\w(?: \w+)?, )?--([\w.]+)(?:\[=\w+\])?(?: \S+)?(?: --\S+ \S+)?(.*?)(?=^  -|^\S|\Z)"
    for match in re.finditer(pattern, full, re.MULTILINE | re.DOTALL):
        yield match[1], " ".join(match[2].split())


def with_suggestion(message: str, known: Iterable[str]) -> str:
    """An error message about a mistyped word, with the known word that it is most like, if there is one."""
    for word in re.findall(r"(?<![\w.-])-{0,2}[A-Za-z][\w.-]*", message)[::-1]:
        close = difflib.get_close_matches(word.partition("=")[0], list(known), n=1, cutoff=0.7)
        if close and close[0] != word:
            return f"{message}; did you mean {close[0]}?"
    return message


def known_options(help: str) -> list[str]:
    """All options that a help names."""
    return re.findall(r"(?<!\w)--[A-Za-z][\w.-]*", help)
