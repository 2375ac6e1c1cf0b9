"""Train a character-level BatchNorm-MLP on names, prove its export, sample it with ONNX Runtime."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from makemore_pl.runtime.sampler import Sampler as Sampler
    from makemore_pl.scoring.scorer import Scorer as Scorer

__version__ = "0.1.0"
__all__ = ["Sampler", "Scorer", "__version__"]
_MODULES = {"Sampler": "makemore_pl.runtime.sampler", "Scorer": "makemore_pl.scoring.scorer"}


def __dir__() -> list[str]:
    return __all__


def __getattr__(name: str) -> Any:
    """Import the public classes on first use, so that `import makemore_pl` costs nothing."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)
