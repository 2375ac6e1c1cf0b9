"""`makemore fit`: train in a run's folder, then test, fold, prove and export the best checkpoint."""

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from signal import SIGINT
from typing import Any, Literal

import lightning as L
import yaml
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.cli import LightningArgumentParser, SaveConfigCallback

from makemore_pl.data.weighting import unit_of_figures
from makemore_pl.errors import RequestError
from makemore_pl.export.export import FormChoice, expect_exportable, export_checkpoint
from makemore_pl.exported.metadata import MODEL_FILE, RUNS_DIR
from makemore_pl.files import write_whole
from makemore_pl.inspect.diagnostics import Diagnostics  # noqa: F401  # --trainer.callbacks+=Diagnostics
from makemore_pl.inspect.loss_curves import plot_losses
from makemore_pl.model.recalibration import RecalibrateBatchNorm
from makemore_pl.parsing.config_files import plain
from makemore_pl.parsing.lightning_cli import MakemoreCLI, has_progress_bar
from makemore_pl.parsing.option_checks import as_list, expect_run_options
from makemore_pl.parsing.resuming import LINKED, expect_same_list, expect_same_run
from makemore_pl.parsing.training_errors import InterruptedFit, explained
from makemore_pl.runs.checkpoint import read_checkpoint
from makemore_pl.runs.checkpointing import AtomicCheckpointIO, RunCheckpoint
from makemore_pl.runs.metrics import METRICS_FILE, is_rank_zero, run_loggers
from makemore_pl.runs.progress_bar import RunProgressBar
from makemore_pl.runs.rounds import RunInRounds, RunLength
from makemore_pl.runs.run_folder import claim_run, confirm_run, hold_run, release_run
from makemore_pl.runs.signals import StopOnSignal
from makemore_pl.runtime.sampler import Sampler

NAMES_SHOWN = 10


class ExportOptions:
    """The files that are made of the best checkpoint.

    Args:
        form: how the network is stored in them, see `makemore export --help`.
        enabled: false makes none.
    """

    def __init__(self, form: FormChoice = "auto", enabled: bool = True) -> None:
        self.form = form
        self.enabled = enabled


def options_of_run(options: Any) -> dict[str, Any]:
    """The options of a run as they stand in its `config.yaml`."""
    found: dict[str, Any] = plain(options)
    found.pop("config", None)
    for linked in LINKED:
        found["model"].pop(linked, None)
    return found


class SaveConfig(SaveConfigCallback):
    """Writes a run's `config.yaml`, whole or not at all, when training begins."""

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Leave the run as it is: its checkpoint may be one that cannot be resumed."""

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        super().setup(trainer, pl_module, "fit")

    def save_config(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        # Called on the first rank alone: it must not ask for `trainer.log_dir`, on which ranks agree.
        text = yaml.safe_dump(options_of_run(self.config), sort_keys=False, allow_unicode=True)
        write_whole(Path(trainer.default_root_dir) / self.config_filename, text.encode())


class FitCLI(MakemoreCLI):
    """The command `fit`."""

    needs_checkpoint = False

    def __init__(self, name: str, args: list[str]) -> None:
        self.run_folder: Path | None = None
        self.made_folder = False  # by this process, which may remove it again
        self.signals = StopOnSignal()
        super().__init__(
            name, args, save_config_callback=SaveConfig, save_config_kwargs={"save_to_log_dir": False}
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        super().add_arguments_to_parser(parser)
        parser.add_argument(
            "--run",
            type=str | None,
            help="name of the run's folder below checkpoints/; the list's name if left out",
        )
        parser.add_argument(
            "--resume",
            type=Literal["auto"] | None,
            help="auto: resume the run that --run names if it has a checkpoint, else begin it, so that a "
            "machine that is taken away can start again with the same command",
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
        parser.add_class_arguments(RunCheckpoint, "checkpoint")
        parser.add_class_arguments(ExportOptions, "export")

    @property
    def runs_dir(self) -> Path:
        """The folder of all runs."""
        return Path(self.options.trainer.default_root_dir or RUNS_DIR)

    @property
    def checkpoints(self) -> RunCheckpoint:
        found: RunCheckpoint = self.config_init["fit"]["checkpoint"]
        return found

    def instantiate_classes(self) -> None:
        try:
            super().instantiate_classes()
        except BaseException:
            self.release()
            raise

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        options = self.trainer_options
        if options.get("fast_dev_run"):  # Lightning's own trial of a few batches
            return super().instantiate_trainer(**kwargs)
        expect_run_options(options, self.checkpoints.dirpath)
        if self.source is not None:
            expect_same_run(self.source, options_of_run(self.options))
            expect_same_list(self.source, self.datamodule.list.name, self.datamodule.list.sha256)
        if self.config_init["fit"]["export"].enabled:
            expect_exportable(self.model.net)
        self.length = RunLength.of(options, self.checkpoints.every_n_train_steps)
        self.run_folder = self.claim()
        self.checkpoints.dirpath = self.checkpoints.dirpath or str(self.run_folder)
        in_rounds = {
            "max_steps": -1,
            "max_epochs": -1,
            "limit_train_batches": 1.0,
            "overfit_batches": 0.0,
            "val_check_interval": 1.0,
            "check_val_every_n_epoch": 1,
        }
        if options["overfit_batches"]:
            in_rounds["limit_val_batches"] = options["overfit_batches"]
        first_step = self.source.global_step if self.source else 0
        logger = options.get("logger")
        return super().instantiate_trainer(
            **in_rounds,
            default_root_dir=str(self.run_folder),
            logger=run_loggers(self.run_folder, first_step) if logger in (None, True) else logger,
            plugins=[*as_list(options.get("plugins")), AtomicCheckpointIO()],
            enable_checkpointing=True,
            **kwargs,
        )

    def callbacks(self) -> list[Callback]:
        options = self.trainer_options
        users = as_list(options.get("callbacks"))
        if options.get("fast_dev_run"):
            return super().callbacks()
        own: list[Callback] = [self.started, self.signals, self.checkpoints]
        recalibrate = self.options.recalibrate
        if recalibrate is not False:
            own.insert(0, RecalibrateBatchNorm(on_one_rank=recalibrate is True))
        if self.shows_progress and not has_progress_bar(users):
            own.append(RunProgressBar())
        return [RunInRounds(self.length, overfit=options["overfit_batches"] > 0), *users, *own]

    def fit(self, **kwargs: Any) -> None:
        """Train. A run that ends before its first checkpoint leaves nothing, and restores what was there."""
        with self.released_if_nothing_is_saved(), explained("fit", self.started, self.source):
            try:
                self.trainer.fit(**kwargs)
            except SystemExit as end:  # Lightning's end of an interruption, after it has shut down in order
                raise self.interruption(end) from end

    def interruption(self, end: SystemExit) -> InterruptedFit:
        """The error that says how to resume."""
        heard = end.__context__.args if end.__context__ else ()  # by the program itself, outside of training
        number = self.signals.stopped_by or (*heard, SIGINT)[0]
        resume = "nothing was saved"
        if self.checkpoints.last.is_file():
            config = self.checkpoints.last.with_name("config.yaml")
            options = ["--config", str(config)] if config.is_file() else []
            options += ["--ckpt_path", str(self.checkpoints.last)]
            resume = f"resume with: makemore fit {shlex.join(options)}"
        return InterruptedFit(f"interrupted at step {self.trainer.global_step}; {resume}", number)

    def after_fit(self) -> None:
        """Test the best checkpoint, export it, and print where everything lies."""
        if self.run_folder is None:
            if self.trainer.is_global_zero:
                print("fast_dev_run passed; nothing was saved, as always in one")
            return
        if self.trainer.global_step == 0:
            self.release()
            raise RequestError("fit: no step was trained, and nothing was saved")
        checkpoints, dev = self.checkpoints, self.checkpoints.best_score
        # Rank 0 alone may have the file, on another machine; the Trainer hands on its weights.
        best = None
        if self.trainer.is_global_zero:
            best = read_checkpoint(checkpoints.last if dev is None else checkpoints.best)
            self.model.load_state_dict(best.weights)
        [figures] = self.trainer.test(self.model, datamodule=self.datamodule, verbose=False)
        if best is None:
            return
        confirm_run(self.run_folder)
        metrics = self.run_folder / METRICS_FILE
        if metrics.is_file():  # not with a logger of the user's own
            plot_losses(metrics, self.run_folder / "plots" / "loss.png")
        print(f"run:    {self.run_folder}")
        evaluated = "" if dev is None else f"{dev:.4f} dev, "
        unit = unit_of_figures(self.datamodule.corpus, self.datamodule.weighted_figures)
        print(f"NLL:    {evaluated}{figures['test/nll']:.4f} test ({unit})", flush=True)
        by_label = [(label, figures.get(f"test/nll/{label}")) for label in self.datamodule.labels]
        if by_label:
            shown = [f"{label} {nll:.4f}" for label, nll in by_label if nll is not None]
            print(f"labels: {', '.join(shown)} (test)", flush=True)
        export: ExportOptions = self.config_init["fit"]["export"]
        if export.enabled:
            exported = export_checkpoint(best, form=export.form)
            print(f"model:  {exported.folder / MODEL_FILE}, {exported.report.describe()}")
            sampler = Sampler(exported.folder, prepare=False)  # asked once
            names = sampler.sample(NAMES_SHOWN, seed=self.options.seed_everything)
            print(f"names:  {', '.join(names)}")

    @contextmanager
    def released_if_nothing_is_saved(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            if not self.checkpoints.last.is_file():
                self.release()
            raise

    def release(self) -> None:
        """Remove the folder that `claim` has made, and bring back the one that it replaced."""
        if self.made_folder and self.run_folder is not None:
            release_run(self.run_folder)
            self.made_folder = False

    def claim(self) -> Path:
        """The run's folder: a new one, or the one of the checkpoint that is resumed."""
        options = self.options
        if self.source is not None:
            folder = self.source.path.parent
            if folder.resolve().parent == self.runs_dir.resolve():
                folder = self.runs_dir / folder.resolve().name  # as its own checkpoints name it
            if options.run is None or folder == self.runs_dir / options.run:
                if is_rank_zero():
                    hold_run(self.held, folder)
                return folder
        list_name = self.datamodule.list.name
        if not is_rank_zero():
            return self.runs_dir / (options.run or list_name)  # rank 0 makes it, and alone writes to it
        folder = claim_run(
            self.held, options.run, list_name, overwrite=options.overwrite, runs_dir=self.runs_dir
        )
        self.made_folder = True
        return folder
