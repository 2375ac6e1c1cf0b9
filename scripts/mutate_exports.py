"""Altered export files: does `verify` refuse each of them?

    python scripts/mutate_exports.py [--seed 0] [--mutants 400] [--by-running] [--labels] [FORM ...]

Trains a small model on the shipped list and exports it in every form. Then changes one thing at a time in
`model.onnx` and in `sampler.onnx`: a number, an operator, an input, an attribute, the metadata, a field of
the file. Every mutant is verified in a process of its own, because an altered graph may crash the one that
runs it. Exit code 1 if one passes that is not the same model: all that may pass are a weight's float32
neighbour, other versions of libraries, and another largest deviation within the tolerance.

With --labels, names have one of two labels, so that the files have one more input.

With --by-running, ONNX Runtime alone judges: the graphs are not compared, only logits and names. It shows
what the second layer of the proof finds by itself.
"""

import argparse
import copy
import json
import logging
import os
import random
import signal
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import onnx
import torch
from onnx import AttributeProto, helper, numpy_helper

from makemore_pl.data.datamodule import NamesDataModule
from makemore_pl.errors import ModelFileError, VerificationError
from makemore_pl.export.export import export_checkpoint, model_info
from makemore_pl.exported.metadata import FORMS, MODEL_FILE, SAMPLER_FILE, Form
from makemore_pl.graph.builder import holds_weights
from makemore_pl.model.fold import fold
from makemore_pl.model.module import LitBatchNormMLP
from makemore_pl.proof import proof
from makemore_pl.proof.contexts import contexts_to_compare
from makemore_pl.runs.checkpoint import read_checkpoint

SECONDS = 60
"""A mutant may loop for ever."""
REFUSED, PASSED, ENDED = 0, 1, 2
OPERATORS = (
    "Add Sub Mul Div Min Max Tanh Neg Relu Exp Log Less LessOrEqual Greater GreaterOrEqual Equal And Or "
)
OPERATORS += "Gather GatherElements ReduceSum ReduceMax ReduceMin ArgMax ArgMin Identity Not Abs Where Sin"


def train(folder: Path, labels: bool) -> Path:
    """The checkpoint of a small network, after one epoch."""
    L.seed_everything(0)
    data = NamesDataModule()
    if labels:
        rows = (f"{name},{'odd' if len(name) % 2 else 'even'}" for name in data.list.names())
        (folder / "list.csv").write_text("\n".join(["name,length", *rows]) + "\n", encoding="utf-8")
        data = NamesDataModule(str(folder / "list.csv"), name_column="name", label_column="length")
    sizes = {"n_hidden": 24, "n_layers": 2, "n_labels": data.n_labels}
    module = LitBatchNormMLP(data.vocab_size, data.block_size, data.n_examples, **sizes)
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = L.Trainer(max_epochs=1, accelerator="cpu", enable_model_summary=False, **quiet)  # type: ignore[arg-type]
    trainer.fit(module, datamodule=data)
    trainer.save_checkpoint(folder / "model.ckpt")
    return folder / "model.ckpt"


def all_nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """The nodes of a graph and of all bodies in it."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.type == AttributeProto.GRAPH:
                yield from all_nodes(attribute.g)


def other_number(model: onnx.ModelProto, rng: random.Random) -> str:
    """Change one number of an initializer; says by how much where it may be rounding."""
    tensor = rng.choice([t for t in model.graph.initializer if numpy_helper.to_array(t).size])
    numbers = numpy_helper.to_array(tensor).copy()
    at = rng.randrange(numbers.size)
    old = numbers.reshape(-1)[at]
    how = "number"
    if numbers.dtype.kind == "f":
        toward = numbers.dtype.type(rng.choice([-np.inf, np.inf]))
        new = rng.choice(
            [old + numbers.dtype.type(1e-3), old * 2 + 1, -old - 1, np.nan, np.inf, np.nextafter(old, toward)]
        )
        if holds_weights(tensor) and new == np.nextafter(old, toward):
            how = "a weight's neighbour"
    elif numbers.dtype.kind == "b":
        new = not old
    else:
        new = old + rng.choice([-1, 1, 2])
    numbers.reshape(-1)[at] = new
    tensor.CopyFrom(numpy_helper.from_array(numbers, tensor.name))
    return how


def other_operator(model: onnx.ModelProto, rng: random.Random) -> str:
    rng.choice(list(all_nodes(model.graph))).op_type = rng.choice(OPERATORS.split())
    return "operator"


def other_input(model: onnx.ModelProto, rng: random.Random) -> str:
    nodes = list(all_nodes(model.graph))
    node = rng.choice([node for node in nodes if node.input])
    names = [name for other in nodes for name in other.output] + [t.name for t in model.graph.initializer]
    if len(node.input) > 1 and rng.random() < 0.5:
        node.input[:] = reversed(list(node.input))
    else:
        node.input[rng.randrange(len(node.input))] = rng.choice([*names, "uniforms", "context", "label", ""])
    return "input"


def other_attribute(model: onnx.ModelProto, rng: random.Random) -> str:
    node = rng.choice([node for node in all_nodes(model.graph) if node.attribute])
    attribute = rng.choice(node.attribute)
    if attribute.type == AttributeProto.INT:
        attribute.i += rng.choice([-1, 1])
    elif attribute.type == AttributeProto.INTS:
        attribute.ints[:] = list(reversed(attribute.ints))
    elif attribute.type == AttributeProto.GRAPH and len(attribute.g.node) > 1:
        del attribute.g.node[rng.randrange(len(attribute.g.node))]
    else:
        node.attribute.remove(attribute)
    return "attribute"


def other_metadata(model: onnx.ModelProto, rng: random.Random) -> str:
    prop = rng.choice(model.metadata_props)
    value = json.loads(prop.value)
    inside = rng.choice(list(value)) if isinstance(value, dict) else None
    old = value[inside] if inside else value
    new: Any
    if isinstance(old, bool) or old is None:
        new = not old
    elif isinstance(old, int | float):
        new = old + 1 if isinstance(old, int) else old * rng.choice([0.9, 1.1])
    elif isinstance(old, list):  # labels, and their shares
        new = rng.choice([old[1:], old + old[:1], old[::-1]])
    else:
        new = rng.choice([old[1:], old + "x", "".join(reversed(old))])
    how = "metadata"
    if prop.key == "makemore.versions" and isinstance(new, str):
        how = "versions"
    if inside == "largest_deviation":
        how = "largest deviation"
    if inside:
        value[inside] = new
    prop.value = json.dumps(value if inside else new)
    if rng.random() < 0.2:
        how = "metadata"
        rng.choice([model.metadata_props.remove, lambda p: model.metadata_props.append(p)])(prop)  # or twice
    return how


def other_field(model: onnx.ModelProto, rng: random.Random) -> str:
    value = rng.choice([*model.graph.input, *model.graph.output])
    changes: list[Callable[[], object]] = [
        lambda: setattr(model.opset_import[0], "version", rng.choice([11, 13, 17, 19])),
        lambda: setattr(model, "ir_version", rng.choice([3, 7, 10])),
        lambda: setattr(value, "name", value.name + "x"),
        lambda: setattr(value.type.tensor_type, "elem_type", rng.choice([1, 6, 7, 11])),
        lambda: value.type.tensor_type.shape.dim.add(dim_value=1),
        lambda: model.graph.node.append(helper.make_node("Identity", [model.graph.input[0].name], ["x"])),
        lambda: model.graph.node.remove(rng.choice(model.graph.node)),
        lambda: setattr(rng.choice(model.graph.initializer), "name", "x"),
        lambda: setattr(rng.choice(model.graph.initializer), "data_type", rng.choice([1, 6, 7, 11])),
        lambda: model.functions.append(onnx.FunctionProto(name="Tanh", domain="")),
        lambda: setattr(model.graph, "doc_string", "x"),
    ]
    rng.choice(changes)()
    return "field"


KINDS = (other_number, other_operator, other_input, other_attribute, other_metadata, other_field)
SAME_MODEL = ("a weight's neighbour", "versions", "largest deviation")
"""Changes that another machine makes, too."""


def in_a_process(check: Callable[[], object]) -> int:
    """REFUSED, PASSED, or ENDED: it crashed, raised what no file should, or took too long."""
    child = os.fork()
    if child == 0:
        try:
            check()
            os._exit(PASSED)
        except (ModelFileError, VerificationError):
            os._exit(REFUSED)
        except BaseException as error:
            print(type(error).__name__, error, file=sys.stderr)
            os._exit(ENDED)
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            code = os.waitstatus_to_exitcode(status)
            return code if code in (REFUSED, PASSED) else ENDED
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return ENDED


def mutate(source: onnx.ModelProto, seed: str) -> tuple[onnx.ModelProto, str]:
    """A copy with one change, and its kind."""
    rng = random.Random(seed)
    while True:
        mutant = copy.deepcopy(source)
        try:
            how = rng.choice(KINDS)(mutant, rng)
        except IndexError:  # nothing of that kind to change
            continue
        if mutant.SerializeToString() != source.SerializeToString():
            return mutant, how


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("forms", nargs="*", metavar="FORM", help="mlp, fused, table; all if left out")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--mutants", type=int, default=400, help="of each file of each form")
    parser.add_argument("--labels", action="store_true", help="of names with labels")
    parser.add_argument("--by-running", action="store_true", help="compare no graphs, only logits and names")
    args = parser.parse_args()
    torch.set_num_threads(1)  # a process with threads of its own cannot be forked
    warnings.simplefilter("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    wrong = 0
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        checkpoint = read_checkpoint(train(folder, args.labels))
        trained = checkpoint.load_model()
        folded, info = fold(trained.layers), model_info(checkpoint, trained)
        contexts = contexts_to_compare(checkpoint, trained)
        target = folder / "mutant.onnx"

        def verify() -> None:
            proof.prove(trained, folded, info, contexts, [target], recorded=True)

        for form in args.forms or FORMS:
            export_checkpoint(checkpoint, folder / form, form)
            for file in (MODEL_FILE, SAMPLER_FILE):
                source = onnx.load(folder / form / file)
                if args.by_running:
                    leave_out_the_graphs(form)
                target.write_bytes(source.SerializeToString())
                assert in_a_process(verify) == PASSED
                counts: Counter[tuple[str, int]] = Counter()
                for i in range(args.mutants):
                    seed = f"{args.seed} {form} {file} {i}"
                    mutant, how = mutate(source, seed)
                    target.write_bytes(mutant.SerializeToString())
                    result = in_a_process(verify)
                    counts[how, result] += 1
                    if result == ENDED or (result == PASSED and how not in SAME_MODEL):
                        wrong += 1
                        if not args.by_running:
                            print(f"not refused: {how}, seed {seed!r}", flush=True)
                rows.append(row(form, file, counts))
                print(rows[-1], flush=True)
    print("\n| form | file | mutants | refused | the same model | crashed | wrong, and passed |")
    print("|---|---|---:|---:|---:|---:|---:|", *rows, sep="\n")
    sys.exit(1 if wrong and not args.by_running else 0)


def leave_out_the_graphs(form: Form) -> None:
    """Let every graph and all metadata pass, so that only running it can show a difference."""
    setattr(proof, "form_of", lambda stored, write: form)  # noqa: B010
    for name in ("expect_same_info", "expect_same_claim", "stored_network", "certify"):
        setattr(proof, name, lambda *args: None)


def row(form: Form, file: str, counts: "Counter[tuple[str, int]]") -> str:
    same = sum(n for (how, result), n in counts.items() if result == PASSED and how in SAME_MODEL)
    passed = sum(n for (_, result), n in counts.items() if result == PASSED) - same
    by_result = [sum(n for (_, r), n in counts.items() if r == result) for result in (REFUSED, ENDED)]
    figures = [sum(counts.values()), by_result[0], same, by_result[1], passed]
    return f"| {form} | `{file}` | {' | '.join(f'{n:,}' for n in figures)} |"


if __name__ == "__main__":
    main()
