"""Configuration files: found by name or path, and checked before their options are parsed."""

from enum import Enum
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import Namespace

from makemore_pl.errors import RequestError
from makemore_pl.files import reading

SHIPPED = Path(__file__).parents[1] / "configs"
MAX_BYTES = 1 << 20
SECTIONS = ("data", "model", "trainer", "checkpoint", "export")


def find_config(name: str) -> str:
    """Find what `--config` names: `deep` is the shipped configs/deep.yaml, unless there is a file `deep`.

    Raises:
        RequestError: there is no such file, or it is not a configuration.
    """
    path = Path(name)
    if not path.exists() and path.name == name and (SHIPPED / f"{name}.yaml").is_file():
        path = SHIPPED / f"{name}.yaml"
    if not path.exists():
        shipped = ", ".join(sorted(file.stem for file in SHIPPED.glob("*.yaml")))
        raise RequestError(f"{path}: no such file here, and no shipped configuration; there are {shipped}")
    with reading(path, RequestError) as size:
        if size > MAX_BYTES:
            raise RequestError(f"{path}: {size:,} bytes; a configuration has at most {MAX_BYTES:,}")
        text = path.read_bytes()
    try:
        content = yaml.safe_load(text.decode())
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise RequestError(f"{path}: not YAML in UTF-8 ({error})") from error
    if not isinstance(content, dict):
        raise RequestError(f"{path}: no configuration; sections such as data, model and trainer are expected")
    for section in SECTIONS:
        if not isinstance(found := content.get(section, {}), dict):
            raise RequestError(f"{path}: {section} must be a section of options, not {str(found)[:40]!r}")
    return str(path)


def plain(value: Any) -> Any:
    """An option's value, or a whole section, as YAML holds it, so that it can be read back.

    jsonargparse's own dump cannot write defaults and values of some of Lightning's callbacks: enumerations,
    devices, functions.
    """
    if isinstance(value, Namespace):
        value = value.as_dict()
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | set):
        return [plain(inner) for inner in value]
    if isinstance(value, Enum):
        return value.name
    return value if value is None or type(value) in (bool, int, float, str) else str(value)


def shipped(name: str) -> dict[str, Any]:
    """Read the sections of a configuration that comes with the program."""
    content: dict[str, Any] = yaml.safe_load((SHIPPED / f"{name}.yaml").read_text(encoding="utf-8"))
    return content
