"""`makemore export` and `makemore verify`: the post-process step, and its proof, again."""

from makemore_pl.export.export import FormChoice, export_checkpoint, verify_file
from makemore_pl.parsing.training_parser import new_parser, parse

VOCABULARY = "its characters, for a checkpoint that was trained on a loader of your own"


def export(command: str, args: list[str]) -> None:
    """Fold, prove and write the files of a checkpoint."""
    parser = new_parser(command, "Fold a checkpoint, prove that nothing changed, and write the ONNX files.")
    add = parser.add_argument
    add("checkpoint", type=str, metavar="CKPT", help="a checkpoint of 'makemore fit'")
    add("-o", "--output", type=str, metavar="DIR", help="folder of the files; the checkpoint's if left out")
    form_help = "how the network is stored; auto: as trained in model.onnx, the fastest form in sampler.onnx"
    add("--form", type=FormChoice, default="auto", help=form_help)
    add("--vocabulary", type=str, metavar="CHARACTERS", help=VOCABULARY)
    options = parse(parser, args)
    exported = export_checkpoint(options.checkpoint, options.output, options.form, options.vocabulary)
    print(f"{exported.folder}: {exported.report.describe()}")


def verify(command: str, args: list[str]) -> None:
    """Prove an existing file."""
    parser = new_parser(
        command, "Prove that an ONNX file computes what a checkpoint computes; exit code 1 if not."
    )
    add = parser.add_argument
    add("model", type=str, metavar="MODEL.onnx", help="an exported file, of either kind")
    add("checkpoint", type=str, metavar="CKPT", help="the checkpoint that it should equal")
    add("--vocabulary", type=str, metavar="CHARACTERS", help=VOCABULARY)
    options = parse(parser, args)
    report = verify_file(options.model, options.checkpoint, options.vocabulary)
    print(f"{options.model}: {report.describe()}")
