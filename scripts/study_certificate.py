"""How far the certificate's bound lies above the largest deviation seen, and how long the proof takes.

    python scripts/study_certificate.py [--epochs 3]

Trains small and wide models on the shipped list and prints one table: block sizes 3 (every context is
compared) and 8 (the corpus's contexts and a million random ones), one to three hidden layers.
"""

import argparse
import logging
import tempfile
import time
import warnings
from pathlib import Path

import lightning as L

from makemore_pl.data.datamodule import NamesDataModule
from makemore_pl.export.export import export_checkpoint
from makemore_pl.model.module import LitBatchNormMLP


def train(block_size: int, n_layers: int, epochs: int, file: Path) -> int:
    """Train and save one model; returns its parameters."""
    L.seed_everything(42)
    data = NamesDataModule(block_size=block_size)
    module = LitBatchNormMLP(data.vocab_size, block_size, data.n_examples, n_layers=n_layers, n_hidden=200)
    trainer = L.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, datamodule=data)
    trainer.save_checkpoint(file)
    return module.net.n_parameters


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--epochs", type=int, default=3)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)

    columns = ["block size", "layers", "parameters", "form", "contexts", "seen", "weights", "bound"]
    print("| " + " | ".join([*columns, "bound / seen", "export, s"]) + " |")
    print("|---:|---:|---:|---|---:|---:|---:|---:|---:|---:|")
    with tempfile.TemporaryDirectory() as folder:
        for block_size in (3, 8):
            for n_layers in (1, 2, 3):
                checkpoint = Path(folder) / "model.ckpt"
                n_parameters = train(block_size, n_layers, args.epochs, checkpoint)
                for form in ("mlp", "fused"):
                    start = time.perf_counter()
                    report = export_checkpoint(checkpoint, form=form).report
                    seconds = time.perf_counter() - start
                    bound = report.certificate
                    assert bound is not None
                    [seen] = [check.largest for check in report.checks if check.name == "model.onnx"]
                    print(
                        f"| {block_size} | {n_layers} | {n_parameters:,} | {form} | {report.contexts:,} "
                        f"| {seen:.1e} | {bound.weights:.1e} | {bound.total:.1e} | {bound.total / seen:,.0f} "
                        f"| {seconds:.1f} |",
                        flush=True,
                    )


if __name__ == "__main__":
    main()
