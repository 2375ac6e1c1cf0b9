"""Trains, exports, verifies, samples and scores models of random configurations, for a given time.

    python scripts/soak.py --minutes 60 [--seed 0]

Each turn makes a list of names in a random alphabet, trains a random network on it, exports it in a random
form, proves the files again, and compares names and scores with the trained network computed in float64.
Stops at the first difference, with exit code 1 and the command that repeats it. Prints what was done, and the
memory taken.
"""

import argparse
import logging
import random
import sys
import tempfile
import time
import warnings
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from numpy.typing import NDArray

from makemore_pl.data.datamodule import NamesDataModule
from makemore_pl.errors import MakemoreError
from makemore_pl.export.export import FormChoice, export_checkpoint, verify_file
from makemore_pl.exported.metadata import ModelInfo
from makemore_pl.model.folded_weights import TABLE_LIMIT
from makemore_pl.model.module import LitBatchNormMLP
from makemore_pl.proof import contexts
from makemore_pl.proof.logits import Logits, module_logits
from makemore_pl.proof.names import expect_borderline
from makemore_pl.runs.checkpoint import read_checkpoint
from makemore_pl.runtime.decoding import Decoding, log_softmax
from makemore_pl.runtime.sampler import Sampler
from makemore_pl.scoring.scorer import Scorer

ALPHABETS = (
    "abcdefghijklmnopqrstuvwxyz",
    "abcdefghijklmnopqrstuvwxyzàâçéèêëîïôûùüÿñæœ",
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz'-. ",
    "αβγδεζηθικλμνξοπρστυφχψω",
    "абвгдежзийклмнопрстуфхцчшщъыьэюя",
    "אבגדהוזחטיכלמנסעפצקרשת",
    "".join(map(chr, range(0x4E00, 0x4E00 + 300))),  # past one byte for an id
    "😀😁😂🤣😃😄😅😆",  # past 16 bits for a character
    "01",
    "x",
)
NAMES = 200
"""Names sampled, compared and scored in each turn."""
MOST_CONTEXTS = 1 << 17
RANDOM_LOGITS = 1 << 23
"""Where there are more contexts, few random ones are compared: it is turns that count here."""
WARM_UP = 20
"""Turns after which memory has been taken for good: only growth from there on counts."""


class DifferenceError(Exception):
    """Two ways to the same thing that disagree."""


@dataclass(frozen=True)
class Config:
    """One turn's list, network and request."""

    names: list[str]
    n_labels: int
    block_size: int
    batch_size: int
    epochs: int
    form: FormChoice
    network: dict[str, Any]
    request: dict[str, Any]


def random_config(rng: random.Random) -> Config:
    """Any small configuration that `makemore fit` takes."""
    alphabet = rng.choice(ALPHABETS)
    alphabet = "".join(rng.sample(alphabet, rng.randint(1, len(alphabet))))
    letters = alphabet.replace(" ", "") or "a"  # a name begins and ends with no space
    longest = rng.randint(3, 14)

    def name() -> str:
        inner = "".join(rng.choice(alphabet) for _ in range(rng.randint(0, longest)))
        return rng.choice(letters) + inner + rng.choice(letters) * bool(inner)

    names = [name() for _ in range(rng.randint(20, 300))]
    names += [letters[0] * n for n in range(1, 13)]  # at least 8 different ones, whatever the alphabet
    vocab_size = len(set("".join(names))) + 1
    n_labels = rng.choice([0, 0, 0, rng.randint(1, 4)])
    # Mostly so few contexts that all are compared, in a second.
    few = MOST_CONTEXTS // max(1, n_labels)
    block_size = rng.choice([t for t in range(1, 6) if t == 1 or vocab_size**t <= few])
    block_size = rng.choice([block_size] * 5 + [rng.randint(1, 5), rng.randint(6, 64)])
    forms: list[FormChoice] = ["auto", "mlp", "fused"]
    if max(1, n_labels) * vocab_size ** (block_size + 1) <= TABLE_LIMIT // 16:
        forms.append("table")
    return Config(
        names=names,
        n_labels=n_labels,
        block_size=block_size,
        batch_size=rng.randint(2, 600),
        epochs=rng.randint(1, 3),
        form=rng.choice(forms),
        network={
            "n_embd": rng.randint(1, 12),
            "n_hidden": rng.randint(1, 64),
            "n_layers": rng.randint(1, 4),
            "n_members": rng.choice([1, 1, 1, 2, 3]),
            "batch_norm": rng.random() < 0.7,
            "norm_output": rng.random() < 0.3,
            "dropout": rng.choice([0.0, 0.0, 0.2]),
            "init": rng.choice(["normal", "scaled", "kaiming", "zero"]),
            "output_gain": rng.choice([None, 0.01, 0.1]),
            "init_seed": rng.choice([None, rng.randint(0, 10**6)]),
            "lr": 10 ** rng.uniform(-3, -1.3),
        },
        request={
            "seed": rng.randint(0, 10**6),
            "temperature": rng.choice([0.0, 0.5, 1.0, 1.0, 1.7]),
            "top_k": rng.choice([0, 0, 3]),
            "top_p": rng.choice([1.0, 1.0, 0.9]),
            "min_length": rng.randint(0, 4),
            "max_length": rng.randint(5, 30),
            "prefix": rng.choice(["", "", rng.choice(names)[:3]]),
            "label": label_of(rng.randrange(n_labels)) if n_labels else None,
        },
    )


def label_of(number: int) -> str:
    """The label of this number, from 0."""
    return f"label {number}"


def turn(config: Config, seed: int, folder: Path, done: Counter[str]) -> None:
    """Fit → export → verify → sample → score.

    Raises:
        DifferenceError, MakemoreError: at the first thing that is not as it should be.
    """
    checkpoint = train(config, seed, folder)
    report = export_checkpoint(checkpoint, form=config.form).report
    for file in ("model.onnx", "sampler.onnx"):
        again = verify_file(folder / file, checkpoint)
        done["contexts compared"] += again.contexts
        done["names compared in proofs"] += again.names.names if again.names else 0
    model = read_checkpoint(checkpoint).load_model()
    logits = module_logits(model.double())
    tolerance = max(check.tolerance for check in report.checks)
    names, log_probs = sample(config, folder, logits, tolerance)
    compare_scores(names, log_probs, folder, logits, tolerance, config.request["label"])
    done["turns"] += 1
    done[f"form {config.form}"] += 1
    done["with labels"] += config.n_labels > 0
    done["with members"] += config.network["n_members"] > 1
    done["parameters"] += model.n_parameters
    done["names sampled and scored"] += len(names)
    done["every context compared"] += report.exhaustive


def train(config: Config, seed: int, folder: Path) -> Path:
    """A checkpoint of `config`, trained in this process."""
    path = folder / "names.tsv"
    rows = [f"{name}\t{label_of(i % max(1, config.n_labels))}" for i, name in enumerate(config.names)]
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    L.seed_everything(seed)
    data = NamesDataModule(
        str(path),
        name_column=1,
        label_column=2 if config.n_labels else None,
        block_size=config.block_size,
        batch_size=config.batch_size,
    )
    module = LitBatchNormMLP(data.vocab_size, data.block_size, n_labels=data.n_labels, **config.network)
    trainer = L.Trainer(
        max_epochs=config.epochs,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(module, datamodule=data)
    trainer.save_checkpoint(folder / "model.ckpt")
    return folder / "model.ckpt"


def sample(
    config: Config, folder: Path, logits: Logits, tolerance: float
) -> tuple[list[str], NDArray[np.float64]]:
    """Names of both files from one seed, and their log-likelihoods; the same but for borderline draws."""
    request = config.request
    samplers = [Sampler(folder / "sampler.onnx"), Sampler(folder / "model.onnx")]
    samplers.append(Sampler(folder / "sampler.onnx", prepare=False))
    [(names, log_probs, _)] = samplers[0].stream(NAMES, **request)
    if names != samplers[0].sample(NAMES, **request):
        raise DifferenceError("one seed has given different names")
    for sampler in samplers[1:]:
        others = sampler.sample(NAMES, **request)
        for row, (ours, theirs) in enumerate(zip(names, others, strict=True)):
            if ours != theirs:
                expect_explained(row, ours, theirs, config, samplers[0], logits, tolerance)
    for name in names:
        if not (name.startswith(request["prefix"]) and len(name) <= request["max_length"]):
            raise DifferenceError(f"{name!r} is not what {request} asks for")
        if len(name) < request["min_length"] or set(name) - set(samplers[0].info.characters):
            raise DifferenceError(f"{name!r} is not what {request} asks for")
    return names, np.array(log_probs)


def expect_explained(
    row: int, ours: str, theirs: str, config: Config, sampler: Sampler, logits: Logits, tolerance: float
) -> None:
    """Raise unless rounding explains that two files have drawn different characters."""
    request = config.request
    vocabulary = sampler.info.vocabulary
    prefix = vocabulary.encode(request["prefix"])
    steps = request["max_length"] - len(prefix)
    uniforms = np.random.default_rng(request["seed"]).random((NAMES, steps), dtype=np.float32)[row]
    width = max(len(ours), len(theirs)) + 1
    a, b = (np.pad(vocabulary.encode(name), (0, width - len(name))) for name in (ours, theirs))
    decoding = Decoding(**{key: request[key] for key in ("temperature", "top_k", "top_p", "min_length")})
    label = label_column(sampler.info, request["label"])
    expect_borderline(logits, config.block_size, uniforms, a, b, prefix, decoding, 2 * tolerance, label)


def label_column(info: ModelInfo, label: str | None) -> NDArray[np.int64]:
    """What stands before the characters of a context: the label's id, or nothing."""
    return np.array([] if label is None else [info.label_id(label)], dtype=np.int64)


def compare_scores(
    names: list[str],
    log_probs: NDArray[np.float64],
    folder: Path,
    logits: Logits,
    tolerance: float,
    label: str | None,
) -> None:
    """The sampler's log-likelihoods and the Scorer's against the trained network's, in float64."""
    scorer = Scorer(folder, label=label)
    before = label_column(scorer.info, label)

    def log_p_of(name: str) -> NDArray[np.float64]:
        """log p of each character and of the end."""
        ids = [0] * scorer.info.block_size + scorer.info.vocabulary.encode(name).tolist() + [0]
        windows = np.lib.stride_tricks.sliding_window_view(ids, scorer.info.block_size)[: len(name) + 1]
        labels = np.broadcast_to(before, (len(windows), len(before)))
        log_p = log_softmax(logits(np.concatenate([labels, windows], axis=1).astype(np.int64)))
        drawn: NDArray[np.float64] = log_p[np.arange(len(name) + 1), ids[scorer.info.block_size :]]
        return drawn

    for name, of_sampler, score in zip(names, log_probs, scorer.score(names), strict=True):
        due = log_p_of(scorer.info.text_rules.name(name))  # a name may be drawn that ends with a space
        drawn = log_p_of(name)
        # A name that was cut at its greatest length has drawn no end.
        allowed = 2 * tolerance * (len(name) + 1) + 1e-5 * (1 + abs(drawn).sum())
        if score.log_prob is None or not abs(score.log_prob - due.sum()) <= allowed:
            raise DifferenceError(f"{name!r}: scored {score.log_prob}, the trained network says {due.sum()}")
        if not min(abs(of_sampler - drawn.sum()), abs(of_sampler - drawn[:-1].sum())) <= allowed:
            raise DifferenceError(
                f"{name!r}: sampled with {of_sampler}, the trained network says {drawn.sum()}"
            )


def resident_mebibytes() -> float:
    """Memory of this process (Linux; elsewhere 0)."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20
    except OSError:
        return 0.0


def soak(seed: int, seconds: float, turns: int | None, most_growth: float) -> int:
    """Run turns until the time is up; returns the exit code."""
    done: Counter[str] = Counter()
    start, settled = time.monotonic(), 0.0
    while time.monotonic() - start < seconds and (turns is None or done["turns"] < turns):
        config = random_config(random.Random(seed))
        with tempfile.TemporaryDirectory() as folder:
            try:
                turn(config, seed, Path(folder), done)
            except (DifferenceError, MakemoreError) as error:
                print(f"difference after {done['turns']:,} turns: {type(error).__name__}: {error}")
                print(
                    f"{config.network}, block size {config.block_size}, form {config.form}, {config.request}"
                )
                print(f"repeat it: python scripts/soak.py --turns 1 --seed {seed}")
                return 1
        seed += 1
        if done["turns"] == WARM_UP:
            settled = resident_mebibytes()
    minutes = (time.monotonic() - start) / 60
    print(f"no difference in {minutes:.1f} minutes")
    for what, count in sorted(done.items()):
        print(f"{what + ':':<28}{count:>14,}")
    now = resident_mebibytes()
    growth = now - settled if done["turns"] > WARM_UP else 0.0
    print(f"memory: {now:,.0f} MiB, {growth:+,.0f} MiB since turn {WARM_UP}")
    if growth > most_growth:
        print(f"memory has grown by more than {most_growth:,.0f} MiB")
        return 1
    return 0


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--turns", type=int, help="end after so many turns, if that is sooner")
    parser.add_argument("--seed", type=int, default=0, help="of the first turn; each next one adds 1")
    parser.add_argument("--most-growth", type=float, default=500, metavar="MIB", help="of the memory taken")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    torch.set_num_threads(1)
    contexts.RANDOM_LOGITS = RANDOM_LOGITS
    sys.exit(soak(args.seed, 60 * args.minutes, args.turns, args.most_growth))


if __name__ == "__main__":
    main()
