"""`MakemoreCLI`: LightningCLI with this project's data and model; a checkpoint brings its own options."""

import sys
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback, ProgressBar, TQDMProgressBar
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI

from makemore_pl.data.datamodule import NamesDataModule
from makemore_pl.errors import MakemoreError, RequestError
from makemore_pl.model.module import LitBatchNormMLP
from makemore_pl.parsing.help_texts import short_help
from makemore_pl.parsing.option_checks import (
    as_list,
    check_options,
    expect_all_processes,
    expect_one_optimizer,
)
from makemore_pl.parsing.resuming import LINKED, NAMING, defaults_from, find_checkpoint, named_checkpoint
from makemore_pl.parsing.training_errors import Started, refusal
from makemore_pl.parsing.training_parser import parse

ASKING = {"-h", "--help", "--print_config"}
"""Options that only ask: nothing is run."""


class MakemoreCLI(LightningCLI):
    """Parses one command's options, builds data, model and Trainer, and runs it.

    Args:
        name: of the command, as the user calls it: fit, validate, test, predict or lr-find.
        args: its options.
    """

    datamodule: NamesDataModule
    model: LitBatchNormMLP
    trainer_type: type[Trainer] = Trainer
    needs_checkpoint = True

    def __init__(self, name: str, args: list[str], **options: Any) -> None:
        self.name = name
        self.command = name.replace("-", "_")  # the Trainer's method
        self.source = named_checkpoint(args, for_fit=name == "fit")
        """The checkpoint that the command works with or is resumed from, if any."""
        if self.source is None and self.needs_checkpoint and not ASKING & set(args):
            raise RequestError(
                f"{self.name}: --ckpt_path is needed: a checkpoint of 'makemore fit', or best, or last"
            )
        self.started = Started()
        self.parsers: list[LightningArgumentParser] = []
        strict = {"exit_on_error": False, "allow_abbrev": False}
        with ExitStack() as self.held:  # what is held until the command has ended
            super().__init__(
                LitBatchNormMLP,
                NamesDataModule,
                trainer_class=self.trainer_type,
                trainer_defaults={"num_sanity_val_steps": 0, "enable_model_summary": False},
                seed_everything_default=42,
                parser_kwargs={"prog": "makemore", **strict, self.command: strict},
                load_from_checkpoint_support=False,
                args=[self.command, *args],
                **{"save_config_callback": None, **options},
            )

    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override]  # there a staticmethod
        """The one command that is run: building the parsers of all four takes seconds."""
        return {self.command: super().subcommands()[self.command]}

    def init_parser(self, **kwargs: Any) -> LightningArgumentParser:
        self.parsers.append(super().init_parser(**kwargs))
        return self.parsers[-1]

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        for linked in LINKED:
            parser.link_arguments(f"data.{linked}", f"model.{linked}", apply_on="instantiate")
        if self.source is not None:
            parser.set_defaults(defaults_from(self.source))

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        self.parsers[-1].prog = f"makemore {self.name}"  # in its help
        asked = list(args) if isinstance(args, list) else []
        if {"-h", "--help"} & set(asked):
            full = self.parsers[-1].format_help()
            print(full if asked[-1] == "all" else short_help(self.name, full))
            raise SystemExit
        self.config = parse(parser, asked, self.parsers[-1])
        check_options(self.options)
        expect_one_optimizer(self.options, self.parsers[-1].get_defaults())
        if self.source is None:  # named by a configuration file
            given = {name: self.options.get(name) for name in NAMING}
            self.source = find_checkpoint(given, for_fit=self.command == "fit")
        # A checkpoint's arguments are defaults here, which the command line may change; LightningCLI would
        # have them the other way round, and reads them from this option.
        self.options["ckpt_path"] = None

    @property
    def options(self) -> Any:
        """The command's options as parsed."""
        return self.config[self.command]

    def before_instantiate_classes(self) -> None:
        if self.source is not None:
            self.options["ckpt_path"] = str(self.source.path)
        if "weights_only" in self.parsers[-1].get_defaults():
            # A checkpoint is data: code that stands in it is never run.
            self.options["weights_only"] = True

    def instantiate_classes(self) -> None:
        """Build data, model, optimiser and Trainer; values that one of them refuses are the user's."""
        try:
            super().instantiate_classes()
        except (
            MakemoreError,
            MisconfigurationException,
            ImportError,
            TypeError,
            ValueError,
            RuntimeError,
        ) as error:
            raise refusal(self.name, error) from None

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        kwargs = {"callbacks": self.callbacks(), "logger": False, "enable_checkpointing": False, **kwargs}
        kwargs.setdefault("enable_progress_bar", self.shows_progress)
        trainer: Trainer = super().instantiate_trainer(**kwargs)
        expect_all_processes(trainer)
        return trainer

    @property
    def trainer_options(self) -> Any:
        """The Trainer's options, its callbacks and plugins being objects."""
        return self.config_init[self.command]["trainer"]

    @property
    def shows_progress(self) -> bool:
        wanted = self.trainer_options.get("enable_progress_bar")
        if wanted is None:
            wanted = sys.stderr.isatty() or has_progress_bar(as_list(self.trainer_options.get("callbacks")))
        return bool(wanted)

    def callbacks(self) -> list[Callback]:
        """The user's, and the program's own."""
        callbacks = [*as_list(self.trainer_options.get("callbacks")), self.started]
        if self.shows_progress and not has_progress_bar(callbacks):
            callbacks.append(TQDMProgressBar())
        return callbacks


def has_progress_bar(callbacks: Sequence[Callback]) -> bool:
    return any(isinstance(callback, ProgressBar) for callback in callbacks)
