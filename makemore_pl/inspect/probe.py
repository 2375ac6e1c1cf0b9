"""`Probe`: watches one training step of a network through hooks, and takes them off again."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm  # the base of BatchNorm1d, SyncBatchNorm and Lightning's
from torch.utils.hooks import RemovableHandle

from makemore_pl.inspect.measures import LayerFigures, Snapshot, WeightFigures

KINDS: dict[type[nn.Module], str] = {nn.Linear: "linear", _BatchNorm: "norm", nn.Tanh: "tanh"}
"""Layers that are watched, and what they are called in the figures."""


class Probe:
    """Sees the outputs of a network's layers, their gradients, and what a step does to its weights.

    `attach`, forward and backward pass, `read_gradients`, optimiser step, `detach`. While detached it costs
    nothing: no hook stays on the network.

    Args:
        layers: of a `BatchNormMLP`.

    Example:
        >>> probe = Probe(model.layers)  # doctest: +SKIP
        >>> probe.attach()  # doctest: +SKIP
        >>> F.cross_entropy(model(contexts), targets).backward()  # doctest: +SKIP
        >>> probe.read_gradients()  # doctest: +SKIP
        >>> snapshot = probe.detach(step=0)  # doctest: +SKIP
    """

    def __init__(self, layers: nn.Sequential) -> None:
        self.watched = {
            name: (kind, layer)
            for name, layer in layers.named_children()
            for base, kind in KINDS.items()
            if isinstance(layer, base)
        }
        self.weights = {f"{name}.weight": p for name, p in _weight_matrices(layers)}
        self._handles: list[RemovableHandle] = []
        self._outputs: dict[str, Tensor] = {}
        self._output_gradients: dict[str, Tensor] = {}
        self._weight_gradients: dict[str, Tensor] = {}
        self._before: dict[str, Tensor] = {}
        self._scale = 1.0

    @property
    def attached(self) -> bool:
        return bool(self._handles)

    @property
    def has_gradients(self) -> bool:
        """Whether the watched step came as far as `read_gradients`."""
        return bool(self._weight_gradients)

    def attach(self) -> None:
        """Put hooks on the layers. Of several forward passes the last is seen."""
        for name, (_, layer) in self.watched.items():
            self._handles.append(layer.register_forward_hook(self._keep_output(name)))

    @torch.no_grad()
    def read_gradients(self, scale: float = 1.0) -> None:
        """Take the weights and their gradients as they are now: after the backward pass, before the step.

        Args:
            scale: what the loss was multiplied by for the backward pass and the weights' gradients have been
                divided by again (float16); the gradients of the outputs still carry it.
        """
        if self.has_gradients:  # several optimisers: what the first one saw, so that updates cover all
            return
        self._scale = scale
        for name, weight in self.weights.items():
            gradient = torch.zeros_like(weight) if weight.grad is None else weight.grad
            self._weight_gradients[name] = gradient.detach().clone()
            self._before[name] = weight.detach().clone()

    @torch.no_grad()
    def detach(self, step: int) -> Snapshot | None:
        """Take the hooks off, and give what they have seen.

        Args:
            step: optimiser steps before this one.

        Returns:
            The figures, or None where no forward pass or no `read_gradients` came between.
        """
        for handle in self._handles:
            handle.remove()
        seen = None
        if self._outputs and self.has_gradients:
            seen = Snapshot(step, self._layer_figures(), self._weight_figures())
        for kept in (
            self._handles,
            self._outputs,
            self._output_gradients,
            self._weight_gradients,
            self._before,
        ):
            kept.clear()
        return seen

    def _keep_output(self, name: str) -> Callable[[nn.Module, Any, Tensor], None]:
        def keep(layer: nn.Module, inputs: Any, output: Tensor) -> None:
            self._outputs[name] = output.detach()  # (B, width)
            if output.requires_grad:

                def keep_gradient(gradient: Tensor) -> None:
                    self._output_gradients[name] = gradient.detach()

                output.register_hook(keep_gradient)  # type: ignore[no-untyped-call]  # PyTorch gives it none

        return keep

    def _layer_figures(self) -> list[LayerFigures]:
        figures = []
        for name, output in self._outputs.items():
            gradient = self._output_gradients.get(name, torch.zeros_like(output))
            kind, _ = self.watched[name]
            figures.append(LayerFigures.of(name, kind, _on_cpu(output), _on_cpu(gradient) / self._scale))
        return figures

    def _weight_figures(self) -> list[WeightFigures]:
        figures = []
        for name, before in self._before.items():
            gradient, update = self._weight_gradients[name], self.weights[name] - before
            figures.append(WeightFigures.of(name, _on_cpu(before), _on_cpu(gradient), _on_cpu(update)))
        return figures


def _weight_matrices(layers: nn.Sequential) -> list[tuple[str, Tensor]]:
    """Name of the layer and matrix of each embedding and Linear."""
    return [
        (name, layer.weight)
        for name, layer in layers.named_children()
        if isinstance(layer, (nn.Embedding, nn.Linear))
    ]


def _on_cpu(tensor: Tensor) -> Tensor:
    """float32, whatever precision it was computed in."""
    return tensor.float().cpu()
