"""The package uses public names of libraries alone: a name that begins with `_` may change without notice."""

import ast
import importlib
import inspect
import textwrap
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest
from helpers import ROOT, import_file

PACKAGE = ROOT / "makemore_pl"
MODULES = sorted(
    ".".join(file.relative_to(ROOT).with_suffix("").parts)
    for file in PACKAGE.rglob("*.py")
    if not file.name.startswith("__")
)
DOCUMENTED = {"os._exit"}
"""Public in spite of their names: the documentation of Python describes them."""
ACCESSORS = {"getattr", "setattr", "hasattr", "delattr"}


def is_private(name: object) -> bool:
    return (
        isinstance(name, str) and name[:1] == "_" and name[:2] != "__" and name.isidentifier() and name != "_"
    )


def is_ours(module: str) -> bool:
    return module.partition(".")[0] == "makemore_pl"


def defined_names(definition: ast.ClassDef) -> set[str]:
    """Names of methods and class attributes, and of the attributes that a class sets on `self`."""
    names = {node.name for node in definition.body if isinstance(node, ast.FunctionDef)}
    for node in ast.walk(definition):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and is_self(node.value):
            names.add(node.attr)
    for node in definition.body:
        if isinstance(node, ast.AnnAssign | ast.Assign):
            targets = [node.target] if isinstance(node, ast.AnnAssign) else node.targets
            names |= {target.id for target in targets if isinstance(target, ast.Name)}
    return names


def is_self(node: ast.expr) -> bool:
    """True for `self`, `cls` and `super()`."""
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Name) and node.func.id == "super"
    return isinstance(node, ast.Name) and node.id in ("self", "cls")


@cache
def names_of(class_: type) -> set[str]:
    """Names that this class itself defines, its bases aside."""
    try:
        [definition] = ast.parse(textwrap.dedent(inspect.getsource(class_))).body
    except (OSError, TypeError):  # not written in Python
        return set(vars(class_))
    assert isinstance(definition, ast.ClassDef)
    return set(vars(class_)) | defined_names(definition)


class PrivateNames(ast.NodeVisitor):
    """Finds the private names of others that a module uses.

    Attributes:
        found: `line: name` of each.
    """

    def __init__(self, module: ModuleType) -> None:
        self.found: list[str] = []
        self.module = module
        tree = ast.parse(inspect.getsource(module))
        definitions = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
        self.of_this_file = {name for definition in definitions for name in defined_names(definition)}
        self.path: list[str] = []  # the classes that stand around a node
        self.visit(tree)

    def expect(self, fine: bool, node: ast.AST, name: str) -> None:
        if not fine:
            self.found.append(f"{node.lineno}: {name}")  # type: ignore[attr-defined]

    def names_around(self) -> tuple[set[str], set[str]]:
        """Names that the class around a node and its bases define: the package's, and the libraries'."""
        class_ = self.module
        for name in self.path:
            class_ = getattr(class_, name)
        ours, theirs = set[str](), set[str]()
        for base in inspect.getmro(class_):  # type: ignore[arg-type]
            (ours if is_ours(base.__module__) else theirs).update(names_of(base))
        return ours, theirs

    def check_attribute(self, node: ast.expr, owner: ast.expr, name: str) -> None:
        if is_self(owner) and self.path:
            ours, theirs = self.names_around()
            self.expect(name in ours - theirs, node, name)
        else:
            shown = f"{ast.unparse(owner)}.{name}"
            self.expect(name in self.of_this_file or shown in DOCUMENTED, node, shown)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self.path.append(node.name)
        _, theirs = self.names_around()
        for name in filter(is_private, defined_names(node)):
            self.expect(name not in theirs, node, f"{node.name}.{name}, a library's")
        self.generic_visit(node)
        self.path.pop()

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self.expect(
                is_ours(alias.name) or not any(map(is_private, alias.name.split("."))), node, alias.name
            )

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        for alias in node.names:
            name = f"{node.module}.{alias.name}"
            self.expect(is_ours(name) or not any(map(is_private, name.split("."))), node, name)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        if is_private(node.attr):
            self.check_attribute(node, node.value, node.attr)
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        for keyword in node.keywords:
            self.expect(not is_private(keyword.arg), node, f"{keyword.arg}=")
        if isinstance(node.func, ast.Name) and node.func.id in ACCESSORS:
            owner, name, *_ = node.args
            if isinstance(name, ast.Constant) and is_private(name.value):
                self.check_attribute(node, owner, name.value)
        self.generic_visit(node)

    def visit_Subscript(self, node: ast.Subscript) -> None:
        if isinstance(node.slice, ast.Constant):
            self.expect(not is_private(node.slice.value), node, ast.unparse(node))
        self.generic_visit(node)


def test_the_package_uses_public_names_only() -> None:
    found = {name: PrivateNames(importlib.import_module(name)).found for name in MODULES}
    assert {name: uses for name, uses in found.items() if uses} == {}


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("from torch.nn.modules.batchnorm import _BatchNorm", "torch.nn.modules.batchnorm._BatchNorm"),
        ("import torch._utils", "torch._utils"),
        ("from torch._utils import ExceptionWrapper", "torch._utils.ExceptionWrapper"),
        ("def f(trainer): return trainer._fit()", "trainer._fit"),
        ("def f(m): m._modules = {}", "m._modules"),
        ("def f(m): return getattr(m, '_modules', 0)", "m._modules"),
        ("def f(m): return m.__dict__['_modules']", "m.__dict__['_modules']"),
        ("def f(g): g(_private=False)", "_private="),
        ("class A(Module):\n  def f(self): return self._parameters", "_parameters"),
        ("class A(Module):\n  def f(self): return super()._get_name()", "_get_name"),
        ("class A(Module):\n  def f(self): return getattr(self, '_buffers')", "_buffers"),
        ("class A:\n  def f(self): return self._not_defined", "_not_defined"),
        ("class A(Module):\n  def _get_name(self): pass", "A._get_name, a library's"),
        ("class A(Module):\n  def f(self): self._modules = {}", "A._modules, a library's"),
        ("class A(Module):\n  _version = 3", "A._version, a library's"),
    ],
)
def test_a_private_name_of_others_is_found(source: str, found: str, tmp_path: Path) -> None:
    first, *_ = PrivateNames(example(source, tmp_path)).found
    assert first.partition(": ")[2] == found


def test_private_names_of_our_own_are_ours(tmp_path: Path) -> None:
    source = """
class A(Module):
    _limit = 3
    _kind: str

    def __init__(self, other):
        super().__init__()
        self._weights, self.__hidden = _f(other._weights), 1

    def _own(self):
        return self._weights, self._limit, self._kind, self.__hidden, self.__class__

class B(A):
    def f(self, _):
        return super()._own()

def _f(x):
    return getattr(x, "_weights")
"""
    assert PrivateNames(example(source, tmp_path)).found == []


def example(source: str, folder: Path) -> ModuleType:
    """A module that passes for one of the package."""
    file = folder / "example.py"
    file.write_text(f"from torch.nn import Module\n{source}\n")
    return import_file(file, "makemore_pl.example")
