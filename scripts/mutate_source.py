"""One-line mutants of the source: do the tests of its room find each of them?

    python scripts/mutate_source.py [--seed 0] [--mutants 20] [--seconds 120] [FILE ...]

Takes every file that trust rests on, or those given, and in a copy of the project changes one thing at a
time: a comparison, an operator, a constant, `min` for `max`, a condition, a statement left out. Runs the
file's tests on each mutant, with a limit of processor time, and prints the survivors and a table. A survivor
is equivalent to the original, or a test is missing. The same seed gives the same mutants and the same
figures: tests that try random examples try the same ones each time. Linux and macOS: each mutant is tested in
a fork, so that libraries are loaded once.
"""

import argparse
import ast
import contextlib
import gc
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
GRAPH = ["graph/test_forms.py", "graph/test_label_input.py", "graph/test_sampler_graph.py"]
TESTS = {
    "context_space.py": ["proof/test_contexts.py"],
    "model/fold.py": ["model/test_fold.py"],
    "model/members.py": ["model/test_members.py"],
    "model/folded_weights.py": ["graph/test_forms.py", "model/test_members.py"],
    "model/recalibration.py": ["model/test_recalibration.py"],
    "model/module.py": ["model/test_module.py"],
    "model/label_nll.py": ["model/test_label_nll.py"],
    "proof/borderline.py": ["proof/test_borderline.py"],
    "proof/certificate.py": ["proof/test_certificate.py"],
    "proof/contexts.py": ["proof/test_contexts.py"],
    "proof/logits.py": ["proof/test_logits.py"],
    "proof/names.py": ["proof/test_names.py"],
    "proof/network_reader.py": ["proof/test_network_reader.py"],
    "proof/stored_metadata.py": ["proof/test_stored_metadata.py"],
    "proof/trials.py": ["proof/test_trials.py"],
    "proof/proof.py": ["proof/test_proof.py"],
    "proof/proof_report.py": ["proof/test_proof.py"],
    "proof/progress.py": ["proof/test_proof.py"],
    "graph/builder.py": ["graph/test_builder.py", *GRAPH],
    "graph/forms.py": GRAPH,
    "graph/labels.py": ["graph/test_label_input.py"],
    "graph/draw.py": ["graph/test_draw.py", *GRAPH[1:]],
    "graph/steps.py": GRAPH[1:],
    "graph/loops.py": GRAPH[1:],
    "graph/sampler_graph.py": GRAPH[1:],
    "runtime/decoding.py": ["runtime/test_decoding.py", "proof/test_borderline.py"],
    "runtime/table.py": ["runtime/test_table.py"],
    "runtime/exact.py": ["runtime/test_exact.py"],
    "data/merging.py": ["data/test_merging.py", "data/test_weights_and_labels.py"],
    "data/batch.py": ["data/test_batches.py", "data/test_merging.py"],
    "data/batches.py": ["data/test_batches.py", "data/test_weights_and_labels.py"],
    "data/training_loader.py": ["data/test_batches.py"],
    "runs/metrics.py": ["runs/test_metrics.py"],
    "inspect/step_table.py": ["inspect/test_step_table.py"],
    "wishes/automata.py": ["wishes/test_automata.py"],
    "wishes/regular_expressions.py": ["wishes/test_regular_expressions.py"],
    "wishes/conditional.py": ["wishes/test_conditional.py", "wishes/test_mixture.py"],
    "wishes/mixture.py": ["wishes/test_mixture.py"],
    "wishes/id_uniforms.py": ["runtime/test_ids.py"],
    "wishes/threads.py": ["wishes/test_regular_expressions.py"],
    "runtime/sampler.py": ["runtime/test_exact.py", "runtime/test_sampler.py", "runtime/test_ids.py"],
    "runtime/ways.py": ["runtime/test_exact.py", "runtime/test_sampler.py", "runtime/test_ids.py"],
    "scoring/scorer.py": ["scoring/test_log_probs.py", "tables/test_labels.py"],
    "scoring/transitions.py": ["scoring/test_log_probs.py"],
    "scoring/character_ids.py": ["scoring/test_log_probs.py"],
    "scoring/windows.py": ["scoring/test_log_probs.py"],
    "scoring/spelling.py": ["scoring/test_log_probs.py"],
    "text.py": ["runtime/test_text.py"],
    "vocabulary.py": ["runtime/test_vocabulary.py"],
    "data/corpus.py": ["data/test_corpus.py", "data/test_weights_and_labels.py"],
    "data/weighting.py": ["data/test_weights_and_labels.py"],
}
"""Of each file that trust rests on: its tests. All of the proof and of the graph are among them."""
SWAPPED: dict[type[ast.AST], str] = {
    ast.Lt: "<=",
    ast.LtE: "<",
    ast.Gt: ">=",
    ast.GtE: ">",
    ast.Eq: "!=",
    ast.NotEq: "==",
    ast.Add: "-",
    ast.Sub: "+",
    ast.Mult: "/",
    ast.Div: "*",
    ast.FloorDiv: "*",
    ast.Mod: "//",
    ast.Pow: "*",
    ast.And: "or",
    ast.Or: "and",
    ast.BitAnd: "|",
    ast.BitOr: "&",
}
SYMBOLS = ("<=", ">=", "==", "!=", "**", "//", "<", ">", "+", "-", "*", "/", "%", "&", "|", "and", "or")
OPPOSITE = {"min": "max", "any": "all", "minimum": "maximum", "left": "right", "low": "high", "ones": "zeros"}
OPPOSITE |= {"Min": "Max", "And": "Or", "Add": "Sub", "Mul": "Div", "ReduceMin": "ReduceMax"}
OPPOSITE |= {"Less": "LessOrEqual", "Greater": "GreaterOrEqual", "n": "n - 1"}
OPPOSITE |= {new: old for old, new in OPPOSITE.items() if new.isidentifier()}
DROPPED = ("abs", "sqrt", "clamp", "double", "float", "eval", "sort", "log", "Log", "Abs", "Squeeze")
"""Functions whose argument may be taken in place of their result."""


WAITS = 20
"""A process that does nothing for so many times its limit has failed, too: it waits for something."""


@dataclass(frozen=True)
class Mutant:
    """One edit of a file: the text from `start` to `end` replaced."""

    file: str
    line: int
    start: int
    end: int
    replacement: str

    def of(self, source: str) -> str:
        return source[: self.start] + self.replacement + source[self.end :]

    def describe(self, source: str) -> str:
        before = source.splitlines()[self.line - 1].strip()
        what = " ".join(source[self.start : self.end].split())
        return f"{self.file}:{self.line}: {what!r} → {self.replacement!r}   in   {before}"


def mutants_of(file: str, source: str) -> list[Mutant]:
    """All mutants of a file whose text they change; docstrings, types and imports are left alone."""
    starts = [0]
    for text in source.encode().splitlines(keepends=True):
        starts.append(starts[-1] + len(text))
    content = source.encode()

    def place(line: int, column: int) -> int:
        """Index in the text of a place that `ast` gives in bytes."""
        return len(content[: starts[line - 1] + column].decode())

    found = []

    def add(line: int, start: int, end: int, replacement: str) -> None:
        if source[start:end] != replacement:
            found.append(Mutant(file, line, start, end, replacement))

    def between(left: ast.expr, right: ast.expr, operator: ast.AST) -> None:
        assert left.end_lineno is not None
        assert left.end_col_offset is not None
        start, end = place(left.end_lineno, left.end_col_offset), place(right.lineno, right.col_offset)
        gap = source[start:end]
        for symbol in SYMBOLS:
            if symbol in gap and "#" not in gap and type(operator) in SWAPPED:
                at = start + gap.index(symbol)
                add(left.end_lineno, at, at + len(symbol), SWAPPED[type(operator)])
                return

    for node in _executed(ast.parse(source)):
        if not hasattr(node, "lineno"):
            continue
        start, end = place(node.lineno, node.col_offset), place(node.end_lineno, node.end_col_offset)  # type: ignore[attr-defined]
        segment = source[start:end]
        match node:
            case ast.BinOp(left, operator, right):
                between(left, right, operator)
            case ast.BoolOp(operator, values):
                between(values[0], values[1], operator)
            case ast.Compare(left, [operator], [right]):
                between(left, right, operator)
            case ast.Constant(value) if isinstance(value, bool):
                add(node.lineno, start, end, str(not value))
            case ast.Constant(value) if isinstance(value, int | float):
                more = f"({value} * 2)" if isinstance(value, float) and value else f"({value} + 1)"
                add(node.lineno, start, end, more)
            case ast.UnaryOp(ast.Not() | ast.USub(), operand):
                add(node.lineno, start, end, f"({ast.unparse(operand)})")
            case ast.Name(name) | ast.Attribute(_, name) if name in OPPOSITE:
                add(node.lineno, end - len(name), end, OPPOSITE[name])
            case ast.Call(ast.Attribute(_, name), [argument, *_]) if name in DROPPED:
                add(node.lineno, start, end, f"({ast.unparse(argument)})")
            case ast.Call(ast.Attribute(value, name), []) if name in DROPPED:
                add(node.lineno, start, end, ast.unparse(value))
            case ast.IfExp(test, _, _):
                at = source.index(" if ", start) if f" if {ast.unparse(test)}" in segment else -1
                if at >= 0:
                    add(node.lineno, at, at + 4, " if not ")
            case ast.If(test, _, _) | ast.While(test, _, _):
                first = place(test.lineno, test.col_offset)
                last = place(test.end_lineno or 0, test.end_col_offset or 0)
                add(node.lineno, first, last, f"not ({ast.unparse(test)})")
            case ast.Raise() | ast.AugAssign() | ast.Expr(ast.Call()) | ast.Continue() | ast.Break():
                add(node.lineno, start, end, "pass")
    return sorted(set(found), key=lambda mutant: (mutant.start, mutant.end, mutant.replacement))


def _executed(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes under `node` that run: no annotations, no docstrings, no text of an error."""
    yield node
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list") or isinstance(node, ast.Raise):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.Import | ast.ImportFrom | ast.Assert):
                continue
            if isinstance(child, ast.AST) and getattr(child, "arg", None) not in ("strict", "stacklevel"):
                yield from _executed(child)


def is_found(copy: Path, tests: list[str], seconds: int) -> bool:
    """Run tests in a fork on the package in `copy`: true if one fails, or their processor time is up."""
    child = os.fork()
    if child == 0:
        os.setsid()
        os.chdir(copy)
        sink = os.open(os.devnull, os.O_WRONLY)
        os.dup2(sink, 1)
        os.dup2(sink, 2)
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
        sys.path[:0] = [str(copy), str(copy / "tests")]
        import pytest
        from hypothesis import Phase, settings

        # The first example that fails is enough.
        settings.register_profile(
            "mutant", derandomize=True, database=None, deadline=None, phases=[Phase.explicit, Phase.generate]
        )
        # Hypothesis's plugin alone: others, and rewritten assertions, take longer to load than tests to run.
        options = ["-x", "-q", "--assert=plain", "-p", "_hypothesis_pytestplugin", "-p", "no:cacheprovider"]
        options += ["-m", "not slow", "--hypothesis-profile=mutant", f"--basetemp={copy}/tmp"]
        code = 1
        with contextlib.suppress(BaseException):
            code = int(pytest.main([*options, *tests]))
        os._exit(code)
    deadline = time.monotonic() + WAITS * seconds
    while time.monotonic() < deadline:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status) != 0
        time.sleep(0.02)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return True


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("files", nargs="*", metavar="FILE", help="of makemore_pl/; all that trust rests on")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--mutants", type=int, default=20, help="of each file, at most")
    parser.add_argument("--seconds", type=int, default=120, help="of a processor; more has failed")
    args = parser.parse_args()
    os.environ |= {"OMP_NUM_THREADS": "1", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    # Loaded once, before the forks; the project itself is loaded in each.
    import hypothesis  # noqa: F401
    import lightning  # noqa: F401
    import matplotlib  # noqa: F401
    import onnx  # noqa: F401
    import onnxruntime  # noqa: F401
    import pytest  # noqa: F401
    import torchmetrics  # noqa: F401

    gc.freeze()  # what is loaded is no garbage, and need not be looked through in every fork
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "project"
        for name in ("makemore_pl", "tests", "data", "docs", "scripts"):
            shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", copy)
        sys.dont_write_bytecode = True
        for file in args.files or TESTS:
            tests = [f"tests/{test}" for test in TESTS[file]]
            target = copy / "makemore_pl" / file
            source = target.read_text(encoding="utf-8")
            everything = mutants_of(file, source)
            chosen = random.Random(f"{args.seed} {file}").sample(
                everything, min(args.mutants, len(everything))
            )
            if is_found(copy, tests, args.seconds):
                sys.exit(f"{file}: its tests fail, or take too long, as it is")
            survivors = 0
            for mutant in sorted(chosen, key=lambda mutant: mutant.start):
                target.write_text(mutant.of(source), encoding="utf-8")
                if not is_found(copy, tests, args.seconds):
                    survivors += 1
                    print(f"survives: {mutant.describe(source)}", flush=True)
            target.write_text(source, encoding="utf-8")
            rows.append(
                f"| `{file}` | {len(everything)} | {len(chosen)} | {len(chosen) - survivors} | {survivors} |"
            )
            print(rows[-1], flush=True)
    print(
        "\n| file | mutants there are | tried | found | survive |\n|---|---:|---:|---:|---:|", *rows, sep="\n"
    )


if __name__ == "__main__":
    main()
