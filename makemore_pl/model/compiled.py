"""Weights by the same names, whether a network is compiled or not."""

from typing import Any

from torch import nn

WRAPPER = "_orig_mod."
"""What `torch.compile(module)` puts into the names of the module's weights."""


def match_names(module: nn.Module, weights: dict[str, Any], prefix: str, *_: object) -> None:
    """Give weights that are to be loaded the names that they have in the module.

    A hook for `register_load_state_dict_pre_hook`: a checkpoint of a compiled network fits one that is not,
    and the other way round.

    Args:
        module: that loads them.
        weights: by name; changed in place.
        prefix: what stands before the module's own names.
    """
    own = {prefix + name.replace(WRAPPER, ""): prefix + name for name in module.state_dict()}
    for name in list(weights):
        weights[own.get(name.replace(WRAPPER, ""), name)] = weights.pop(name)
