"""What is wrong with a configuration file, said before its options are parsed."""

from pathlib import Path
from typing import Any

import yaml

from makemore_pl.errors import RequestError
from makemore_pl.files import file_size

SHIPPED = Path(__file__).parents[1] / "configs"
MAX_BYTES = 1 << 20
MAX_VALUES = 100_000
"""Values in a file, those that aliases repeat counted each time: ten lines can stand for a billion."""
SECTIONS = ("data", "model", "trainer", "checkpoint", "export")


def find_config(name: str) -> str:
    """The file that `--config` means: `deep` is the shipped configs/deep.yaml, unless that is a file here.

    Raises:
        RequestError: the file is no configuration.
    """
    path = Path(name)
    if not path.exists() and path.name == name and (SHIPPED / f"{name}.yaml").is_file():
        path = SHIPPED / f"{name}.yaml"
    size = file_size(path, RequestError)
    if size > MAX_BYTES:
        raise RequestError(f"{path}: {size:,} bytes; a configuration has {MAX_BYTES:,} at most")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RequestError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise RequestError(f"{path}: not UTF-8 ({error.reason})") from error
    except (yaml.YAMLError, ValueError) as error:
        raise RequestError(f"{path}: not YAML ({error})") from error
    except RecursionError as error:
        raise RequestError(f"{path}: nested too deeply") from error
    _expect_sections(content, path)
    return str(path)


def shipped(name: str) -> dict[str, Any]:
    """The sections of a configuration that comes with the program."""
    content: dict[str, Any] = yaml.safe_load((SHIPPED / f"{name}.yaml").read_text(encoding="utf-8"))
    return content


def _expect_sections(content: Any, path: Path) -> None:
    if not isinstance(content, dict):
        raise RequestError(f"{path}: no configuration; sections such as data, model and trainer are expected")
    for section in SECTIONS:
        if section in content and not isinstance(content[section], dict):
            raise RequestError(
                f"{path}: {section} is no section of options, but {str(content[section])[:40]!r}"
            )
    pending, n_values = [content], 0
    while pending:
        value = pending.pop()
        inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        n_values += len(inner)
        if n_values > MAX_VALUES:
            raise RequestError(f"{path}: more than {MAX_VALUES:,} values")
        pending += inner
