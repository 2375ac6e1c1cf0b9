"""Two reports: of a run with all that belongs to it, and of a checkpoint whose names are full of markup."""

from pathlib import Path

import lightning as L
import pytest
from helpers import EVIL, trainer

from makemore_pl.data.datamodule import NamesDataModule
from makemore_pl.model.module import LitBatchNormMLP
from makemore_pl.report import page
from makemore_pl.report.sampled_names import MadeUp
from makemore_pl.report.sources import Material


@pytest.fixture(scope="session")
def full_page(run_folder: Path) -> Path:
    """The report of a run with its folder and its list."""
    return page.write_report(Material(run_folder / "best.ckpt"), run_folder.parent / "full.html")


@pytest.fixture(scope="session")
def evil_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A deep network without BatchNorm on eight characters of names full of markup."""
    folder = tmp_path_factory.mktemp("evil")
    names = [EVIL, "a&b", '"q"', "$x$", "</svg>", "{{7*7}}", "Žofie", "美咲", "يعل", "J. R."] * 3
    path = folder / f"{EVIL.replace('/', '')}.txt"
    path.write_text("\n".join(f"{name}{i}" for i, name in enumerate(names)), encoding="utf-8")
    L.seed_everything(1)
    data = NamesDataModule(str(path), block_size=8)
    module = LitBatchNormMLP(data.vocab_size, 8, n_layers=2, n_hidden=20, n_embd=2, batch_norm=False)
    fitter = trainer(max_steps=2, limit_val_batches=0)
    fitter.fit(module, datamodule=data)
    fitter.save_checkpoint(folder / "last.ckpt")
    return folder / "last.ckpt"


@pytest.fixture(scope="session")
def evil_page(evil_checkpoint: Path) -> Path:
    """Its report, in which the model makes up the worst names."""
    shown = [
        MadeUp(EVIL, -3.0, True),
        MadeUp("</li><img src=x onerror=alert(2)>", -4.0, False),
        MadeUp("{{ 7 * 7 }}", -5.0, True),
        MadeUp("", -6.0, None),
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(page, "make_up", lambda material, seed: (shown, 0.5))
        return page.write_report(Material(evil_checkpoint), evil_checkpoint.with_name("evil.html"))
