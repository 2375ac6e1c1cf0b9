"""Feeds bytes made by a coverage-guided fuzzer to everything that reads others' files.

    pip install atheris
    python scripts/fuzz_inputs.py lists [--seconds 300] [--corpus FOLDER]
    python scripts/fuzz_inputs.py onnx

Lists: any bytes must give names or a DataError, and names must survive the way to examples and back.
ONNX files: any bytes must be metadata or a ModelFileError; where the package onnx can read them and sees data
in another file, they must be refused before ONNX Runtime gets them.

Prints libFuzzer's figures. The first input that fails is shown with its traceback, and kept in the corpus
folder.
"""

import argparse
import io
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path

LISTS = (
    b"anna\nbo\ncy\ndora\nemil\nfay\ngus\nhal\n",
    b"\xef\xbb\xbfanna\r\nbo\r\n",
    "Žofie\nÅse\n美咲\nא\n".encode(),
    b"a\x00b\n",
    b"a\rb\n",
    b"\xff\xfe",
    b"x" * 300,
    b"\n\n \t\n",
)


def check_list(content: bytes) -> None:
    """One input through reading, vocabulary, splits and windows, and through the runtime's own reader."""
    import torch

    from makemore_pl.data.batches import windows
    from makemore_pl.data.corpus import SPLITS, build_corpus
    from makemore_pl.errors import DataError
    from makemore_pl.parsing.names_io import read_lines
    from makemore_pl.reading.lines import read_names

    with suppress(DataError):
        list(read_lines(io.TextIOWrapper(io.BytesIO(content), encoding="utf-8-sig"), "list"))
    try:
        blocks = list(read_names(io.BytesIO(content), "list"))
        corpus = build_corpus(blocks, dedupe=True, seed=42)
    except DataError:
        return
    splits = {split: corpus.names(split) for split in SPLITS}
    different = {name for block in blocks for name in block.names}
    assert sorted(name for names in splits.values() for name in names) == sorted(different)
    for split, names in splits.items():
        stream = torch.from_numpy(corpus.streams[split])
        contexts, targets = windows(stream, torch.arange(len(stream)), 3)
        assert len(contexts) == len(targets) == sum(len(name) + 1 for name in names)
        start = 0
        for name in names:
            assert corpus.vocabulary.decode(targets[start:].numpy()) == name
            assert not contexts[start].any()
            start += len(name) + 1


def onnx_files() -> Iterator[bytes]:
    """Small files of the kinds that occur, and their metadata."""
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    context = helper.make_tensor_value_info("context", TensorProto.INT64, ["batch", 1])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 3])
    table = numpy_helper.from_array(np.zeros((3, 3), dtype=np.float32), "table")
    node = helper.make_node("Gather", ["table", "context"], ["logits"], axis=0)
    graph = helper.make_graph([node], "g", [context], [logits], [table])
    inner = helper.make_graph([helper.make_node("Identity", ["logits"], ["y"])], "inner", [], [])
    branch = helper.make_node("If", ["c"], ["z"], then_branch=inner, else_branch=inner)
    for nodes in ([node], [node, branch], [helper.make_node("Gather", [], [], domain="other")]):
        del graph.node[:]
        graph.node.extend(nodes)
        model = helper.make_model(graph)
        helper.set_model_props(model, {"makemore.format_version": "1", "makemore.characters": '"ab"'})
        yield model.SerializeToString()
    table.data_location = TensorProto.EXTERNAL
    table.external_data.add(key="location", value="../secret")
    yield helper.make_model(helper.make_graph([], "g", [], [], [table])).SerializeToString()
    yield b'"ab"\n3\n10\n200\n1\n12097\n"mlp"\n10\n"list"\n"00"\n"11"\n{}\n{}\n1'


def check_onnx(content: bytes) -> None:
    """One input as a file, and as the lines of a file's metadata."""
    import onnx

    from makemore_pl.errors import ModelFileError
    from makemore_pl.exported.metadata import ModelInfo
    from makemore_pl.exported.session import expect_data_inside

    lines = content.decode("utf-8", "replace").split("\n")
    keys = [f"makemore.{name}" for name in ModelInfo.__dataclass_fields__]
    with suppress(ModelFileError):
        info = ModelInfo.from_metadata(dict(zip(keys, lines, strict=False)), Path("file"))
        assert len(info.vocabulary) == len(info.characters) + 1
    try:
        expect_data_inside(content, Path("file"))
    except ModelFileError:
        return
    try:
        model = onnx.load_from_string(content)
    except Exception:  # protobuf's DecodeError: what cannot be parsed, ONNX Runtime refuses
        return
    for tensor in model.graph.initializer:
        assert not any(entry.key == "location" for entry in tensor.external_data)


def fuzz(name: str, seconds: int, corpus: Path) -> None:
    """Runs for the given time, then ends the process; exit code 77 where an input fails."""
    try:
        import atheris
    except ModuleNotFoundError:
        sys.exit("the fuzzer is missing: pip install atheris")
    check, seeds = TARGETS[name]
    corpus.mkdir(parents=True, exist_ok=True)
    for i, seed in enumerate(seeds()):
        (corpus / f"seed-{i}").write_bytes(seed)
    with atheris.instrument_imports(include=["makemore_pl"]):
        check(b"")  # imports what it needs
    options = [f"-max_total_time={seconds}", "-print_final_stats=1", f"-artifact_prefix={corpus}/failed-"]
    atheris.Setup([sys.argv[0], *options, "-timeout=10", "-rss_limit_mb=4096", str(corpus)], check)
    atheris.Fuzz()


TARGETS: dict[str, tuple[Callable[[bytes], None], Callable[[], Iterable[bytes]]]] = {
    "lists": (check_list, lambda: LISTS),
    "onnx": (check_onnx, onnx_files),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--seconds", type=int, default=300)
    parser.add_argument("--corpus", type=Path, help="folder of inputs, kept; a temporary one if left out")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        fuzz(args.target, args.seconds, args.corpus or Path(folder))


if __name__ == "__main__":
    main()
