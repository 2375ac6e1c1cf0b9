"""`MakemoreCLI`: LightningCLI with this project's data, model, run folders and post-process step."""

import argparse
import shlex
import sys
from contextlib import ExitStack
from pathlib import Path
from signal import SIGINT
from tempfile import TemporaryDirectory
from typing import Any

from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Trainer
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI

from makemore_pl.commands.export_after_fit import ExportAfterFit
from makemore_pl.commands.option_checks import (
    Progress,
    check_options,
    expect_all_processes,
    explained,
    refusal,
)
from makemore_pl.commands.predictions import require_prediction_memory, write_predictions
from makemore_pl.commands.progress_bar import progress_bar
from makemore_pl.data.datamodule import NamesDataModule
from makemore_pl.errors import MakemoreError, RequestError
from makemore_pl.inspect.diagnostics import Diagnostics  # noqa: F401  # --trainer.callbacks+=Diagnostics
from makemore_pl.inspect.loss_curves import plot_losses
from makemore_pl.model.module import LitBatchNormMLP
from makemore_pl.model.recalibration import RecalibrateBatchNorm
from makemore_pl.runs.checkpoint import Checkpoint, read_checkpoint
from makemore_pl.runs.checkpointing import AtomicCheckpointIO, RunCheckpoint, SaveConfig
from makemore_pl.runs.length import training_length
from makemore_pl.runs.lr_find import SweepTrainer
from makemore_pl.runs.metrics import METRICS_FILE, is_rank_zero, run_loggers
from makemore_pl.runs.run_folder import (
    claim_run,
    confirm_run,
    hold_run,
    release_run,
    resolve_checkpoint,
)
from makemore_pl.runtime.metadata import MODEL_FILE, RUNS_DIR
from makemore_pl.runtime.sampler import Sampler

LR_FIND = "lr_find"
NEED_A_CHECKPOINT = ("validate", "test", "predict")
NAMES_SHOWN = 10


class InterruptedFit(MakemoreError):
    """Training was stopped by a signal; the exit code is that of a process which that has ended."""

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal_number


class MakemoreCLI(LightningCLI):
    """Parses one command's options, builds data, model and Trainer, and runs it.

    Args:
        command: fit, validate, test, predict or lr_find.
        args: its options.
    """

    datamodule: NamesDataModule
    model: LitBatchNormMLP

    def __init__(self, command: str, args: list[str]) -> None:
        self.command = command
        self.source = _named_checkpoint(args)
        asks_only = bool({"-h", "--help", "--print_config"} & set(args))
        if self.source is None and command in NEED_A_CHECKPOINT and not asks_only:
            raise RequestError(
                f"{command}: --ckpt_path is needed: a checkpoint of 'makemore fit', or best, or last"
            )
        self.run_folder: Path | None = None
        self.made_folder = False  # whether this process has made the run's folder, and may take it back
        self.progress = Progress()
        with ExitStack() as self.held:  # what is held until the command has ended
            super().__init__(
                LitBatchNormMLP,
                NamesDataModule,
                trainer_class=SweepTrainer if command == LR_FIND else Trainer,
                save_config_callback=SaveConfig if command == "fit" else None,
                save_config_kwargs={"save_to_log_dir": False},
                trainer_defaults={"num_sanity_val_steps": 0, "callbacks": [self.progress]},
                seed_everything_default=42,
                parser_kwargs={"prog": "makemore", "exit_on_error": False, command: {"exit_on_error": False}},
                load_from_checkpoint_support=False,
                args=[command, *args],
            )

    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override]  # there a staticmethod
        """The one command that is run: building the parsers of all four takes seconds."""
        if self.command == LR_FIND:
            return {LR_FIND: {"model", "datamodule"}}
        return {self.command: super().subcommands()[self.command]}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.link_arguments("data.vocab_size", "model.vocab_size", apply_on="instantiate")
        parser.link_arguments("data.block_size", "model.block_size", apply_on="instantiate")
        parser.link_arguments("data.n_examples", "model.n_examples", apply_on="instantiate")
        if self.command == "fit":
            parser.add_argument(
                "--run",
                type=str | None,
                help="name of the run's folder below checkpoints/; the list's name if left out",
            )
            parser.add_argument(
                "--overwrite", type=bool, default=False, help="replace an earlier run of that name"
            )
            parser.add_argument(
                "--recalibrate",
                type=bool | None,
                help="before each validation, take BatchNorm's statistics over the whole training set; "
                "left out: where several devices train",
            )
            parser.add_lightning_class_args(RunCheckpoint, "checkpoint")
            parser.add_lightning_class_args(ExportAfterFit, "export")
        if self.source is not None:
            parser.set_defaults(_defaults_from(self.source))

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        assert isinstance(args, list)
        self._parser(self.command).prog = f"makemore {self.command.replace('_', '-')}"  # in its help
        self.config = parser.parse_args(args)
        check_options(self.config[self.command].seed_everything, self.config[self.command].trainer)

    def _parse_ckpt_path(self) -> None:
        """Nothing: a checkpoint's arguments are defaults here, which the command line may change."""

    def before_instantiate_classes(self) -> None:
        options = self.config[self.command]
        if self.source is None and options.get("ckpt_path") is not None:  # from a configuration file
            self.source = read_checkpoint(resolve_checkpoint(options.ckpt_path, options.get("run")))
        if self.source is not None:
            options["ckpt_path"] = str(self.source.path)
        if self.command != LR_FIND:
            # A checkpoint is data: never run code that stands in it.
            options["weights_only"] = True

    def instantiate_classes(self) -> None:
        """Data, model, optimiser and Trainer; values that one of them refuses are the user's."""
        try:
            super().instantiate_classes()
        except (MakemoreError, MisconfigurationException, TypeError, ValueError, RuntimeError) as error:
            self._release_run()
            raise refusal(self.command, error) from None

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        config = self._get(self.config_init, "trainer")
        callbacks = config.get("callbacks") or []
        callbacks = callbacks if isinstance(callbacks, list) else [callbacks]
        if self.command == "fit" and self.config.fit.recalibrate is not False:
            callbacks.append(RecalibrateBatchNorm(on_one_rank=self.config.fit.recalibrate is True))
        kwargs = {"callbacks": callbacks, **progress_bar(config.enable_progress_bar, callbacks), **kwargs}
        if self.command == LR_FIND:
            # As long as the sweep takes; the weights are put aside in a folder that goes with it.
            work_folder = self.held.enter_context(TemporaryDirectory(prefix="makemore-"))
            lengths = {"max_epochs": -1, "max_steps": self.config.lr_find.steps}
            kwargs = {"default_root_dir": work_folder, **lengths, **kwargs}
        if self.command != "fit":
            kwargs = {"logger": False, "enable_checkpointing": False, **kwargs}
        elif not config.get("fast_dev_run"):
            self.run_folder = self._claim_run()
            kwargs = {"default_root_dir": str(self.run_folder), **kwargs}
            if config.get("logger") in (None, True):
                kwargs["logger"] = run_loggers(self.run_folder, self.source.global_step if self.source else 0)
            checkpoints: RunCheckpoint = self._get(self.config_init, "checkpoint")
            checkpoints.dirpath = checkpoints.dirpath or str(self.run_folder)
            plugins = config.get("plugins") or []
            plugins = plugins if isinstance(plugins, list) else [plugins]
            kwargs = {"plugins": [*plugins, AtomicCheckpointIO()], **kwargs}
        trainer: Trainer = super().instantiate_trainer(**{**training_length(config), **kwargs})
        expect_all_processes(trainer)
        return trainer

    def fit(self, **kwargs: Any) -> None:
        """Train; an interruption says how to go on. A run that fails before its first checkpoint
        leaves nothing, and what it was to replace stays.
        """
        try:
            with explained(self.command, self.progress, self.source):
                self.trainer.fit(**kwargs)
        except SystemExit as end:  # what Lightning makes of Ctrl-C, after it has shut down in order
            checkpoints: RunCheckpoint = self._get(self.config_init, "checkpoint")
            go_on = "; nothing was saved"
            if self._has_checkpoint():
                config = Path(checkpoints.last_model_path).with_name("config.yaml")
                options = ["--config", str(config)] if config.is_file() else []
                options += ["--ckpt_path", checkpoints.last_model_path]
                go_on = f"; go on with: makemore fit {shlex.join(options)}"
            else:
                self._release_run()
            # Outside of training it is the program itself that hears of a signal.
            heard = end.__context__.args if end.__context__ else ()
            number = checkpoints.stopped_by or (*heard, SIGINT)[0]
            raise InterruptedFit(f"interrupted at step {self.trainer.global_step}{go_on}", number) from end
        except Exception:
            if not self._has_checkpoint():
                self._release_run()
            raise
        if self.run_folder is not None and self.trainer.is_global_zero:
            confirm_run(self.run_folder)

    def validate(self, **kwargs: Any) -> None:
        with explained(self.command, self.progress, self.source):
            self.trainer.validate(**kwargs)

    def test(self, **kwargs: Any) -> None:
        with explained(self.command, self.progress, self.source):
            self.trainer.test(**kwargs)

    def after_fit(self) -> None:
        """Figures of the best checkpoint, where everything lies, and names from the exported file."""
        export: ExportAfterFit = self._get(self.config_init, "export")
        checkpoints: RunCheckpoint = self._get(self.config_init, "checkpoint")
        if self.run_folder is None or not checkpoints.best_model_path:
            if self.trainer.is_global_zero:
                print("nothing was saved: not one epoch was trained and evaluated")
            return
        dev = checkpoints.best_model_score
        # Rank 0 alone may have the file, on another machine; the Trainer hands on its weights.
        if self.trainer.is_global_zero:
            self.model.load_state_dict(read_checkpoint(checkpoints.best_model_path).weights)
        [figures] = self.trainer.test(self.model, datamodule=self.datamodule, verbose=False)
        if not self.trainer.is_global_zero:
            return
        metrics = self.run_folder / METRICS_FILE
        if metrics.is_file():  # not with a logger of the user's own
            plot_losses(metrics, self.run_folder / "plots" / "loss.png")
        print(f"run:    {self.run_folder}")
        print(f"NLL:    {dev:.4f} dev, {figures['test/nll']:.4f} test (nats per character)")
        if export.export is not None:
            print(f"model:  {export.export.folder / MODEL_FILE}, {export.export.report.describe()}")
            sampler = Sampler(export.export.folder, prepare=False)  # asked once
            names = sampler.sample(NAMES_SHOWN, seed=self.config.fit.seed_everything)
            print(f"names:  {', '.join(names)}")

    def lr_find(self, steps: int, **kwargs: Any) -> None:
        """Sweep, and print what it suggests."""
        assert isinstance(self.trainer, SweepTrainer)
        with explained(self.command, self.progress, self.source):
            sweep = self.trainer.lr_find(steps=steps, **kwargs)
        if not self.trainer.is_global_zero:
            return
        option = "optimizer.lr" if self.config.lr_find.get("optimizer") else "model.lr"
        low, high = (f"{sweep.rates[step]:.2g}" for step in sweep.valley)
        print(f"lr:     {sweep.suggestion:.2g}, the middle of where the loss was lowest, {low} to {high}")
        print(
            f"sweep:  {len(sweep.losses):,} of {steps:,} steps, {sweep.rates[0]:.2g} to {sweep.rates[-1]:.2g}"
        )
        print(f"plot:   {kwargs['plot']}")
        if not sweep.is_bracketed:
            print("note:   the loss is lowest at an end of the sweep; widen it by --min_lr or --max_lr")
        print(f"use:    makemore fit ... --{option} {sweep.suggestion:.2g}")

    def predict(self, **kwargs: Any) -> None:
        """Every example of the test split with what the network expects, as CSV on stdout."""
        if self.trainer.world_size > 1:
            raise RequestError("predict: predictions come in order from one device; set trainer.devices to 1")
        require_prediction_memory(self.datamodule)
        with explained(self.command, self.progress, self.source):
            outputs = self.trainer.predict(**kwargs)
        write_predictions(outputs, self.datamodule, sys.stdout)  # type: ignore[arg-type]  # one loader

    def _has_checkpoint(self) -> bool:
        checkpoints: RunCheckpoint = self._get(self.config_init, "checkpoint")
        return Path(checkpoints.last_model_path).is_file()

    def _release_run(self) -> None:
        """Take back the folder that `_claim_run` has made, and put back what it replaced."""
        if self.made_folder and self.run_folder is not None:
            release_run(self.run_folder)

    def _claim_run(self) -> Path:
        """The run's folder: a new one, or the one of the checkpoint that training goes on from."""
        options = self.config[self.command]
        if self.source is not None:
            folder = self.source.path.parent
            if folder.resolve().parent == RUNS_DIR.resolve():
                folder = RUNS_DIR / folder.resolve().name  # as its own checkpoints name it
            if options.run is None or folder == RUNS_DIR / options.run:
                if is_rank_zero():
                    hold_run(self.held, folder)
                return folder
        list_name = self.datamodule.list.name
        if not is_rank_zero():
            return RUNS_DIR / (options.run or list_name)  # rank 0 makes it, and alone writes to it
        folder = claim_run(self.held, options.run, list_name, overwrite=options.overwrite)
        self.made_folder = True
        return folder


def _named_checkpoint(args: list[str]) -> Checkpoint | None:
    """The checkpoint that the command line names, read before its other options are parsed."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--ckpt_path")
    parser.add_argument("--run")
    try:
        options, _ = parser.parse_known_args(args)
    except argparse.ArgumentError as error:
        raise RequestError(str(error)) from error
    if options.ckpt_path in (None, "null"):
        return None
    return read_checkpoint(resolve_checkpoint(options.ckpt_path, options.run))


def _defaults_from(checkpoint: Checkpoint) -> dict[str, Any]:
    """The model's and the data's arguments as they were in training, and its vocabulary."""
    linked = ("vocab_size", "block_size", "n_examples")
    defaults = {f"model.{k}": v for k, v in checkpoint.model_arguments.items() if k not in linked}
    defaults |= {f"data.{k}": v for k, v in checkpoint.data_arguments.items()}
    defaults["data.characters"] = checkpoint.data["characters"]
    return defaults
