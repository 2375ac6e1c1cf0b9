"""`Probe`: watches one training step of a network through hooks, and removes them again."""

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from makemore_pl.inspect.measures import Snapshot
from makemore_pl.model.network import BatchNormMLP, is_batch_norm


class Probe:
    """Sees the outputs of a `BatchNormMLP`'s layers, their gradients, and what a step does to its weights.

    `attach`, forward and backward pass, `read_gradients`, optimiser step, `detach`. While detached it costs
    nothing: no hook stays on the network.
    """

    def __init__(self, layers: nn.Sequential) -> None:
        named = dict(layers.named_children())
        self.watched = {
            name: layer
            for name, layer in named.items()
            if isinstance(layer, (nn.Linear, nn.Tanh)) or is_batch_norm(layer)
        }
        self.weights = {
            f"{name}.weight": layer.weight
            for name, layer in named.items()
            if isinstance(layer, (nn.Embedding, nn.Linear))
        }
        self._hooks: list[RemovableHandle] = []
        self._outputs: dict[str, Tensor] = {}
        self._gradients: dict[str, Tensor] = {}
        self._before: dict[str, Tensor] = {}
        self._scale = 1.0

    @property
    def attached(self) -> bool:
        return bool(self._hooks)

    def attach(self) -> None:
        """Put hooks on the layers. Of several forward passes the last is seen."""
        for name, layer in self.watched.items():
            self._hooks.append(layer.register_forward_hook(partial(self._keep_output, name)))

    @torch.no_grad()
    def read_gradients(self, scale: float = 1.0) -> None:
        """Copy the weights and their gradients: after the backward pass, before the step.

        Args:
            scale: what the loss was multiplied by for the backward pass and the weights' gradients have been
                divided by again (float16); the gradients of the outputs still carry it.
        """
        if self._before:  # several optimisers: what the first one saw, so that updates cover all
            return
        self._scale = scale
        for name, weight in self.weights.items():
            gradient = torch.zeros_like(weight) if weight.grad is None else weight.grad
            self._gradients[name] = gradient.detach().clone()
            self._before[name] = weight.detach().clone()

    @torch.no_grad()
    def detach(self, step: int) -> Snapshot | None:
        """Remove the hooks, and return what they have seen.

        Args:
            step: optimiser steps before this one.

        Returns:
            The figures, or None where no forward pass or no `read_gradients` came between.
        """
        for hook in self._hooks:
            hook.remove()
        snapshot = Snapshot(step) if self._outputs and self._before else None
        if snapshot is not None:
            for name, output in self._outputs.items():
                gradient = torch.zeros_like(output) if output.grad is None else output.grad
                is_tanh = isinstance(self.watched[name], nn.Tanh)
                snapshot.add_layer(name, _on_cpu(output), _on_cpu(gradient) / self._scale, is_tanh)
            for name, before in self._before.items():
                update = self.weights[name] - before
                snapshot.add_weight(name, *map(_on_cpu, (before, self._gradients[name], update)))
        for kept in (self._hooks, self._outputs, self._gradients, self._before):
            kept.clear()
        return snapshot

    def _keep_output(self, name: str, layer: nn.Module, inputs: Any, output: Tensor) -> None:
        self._outputs[name] = output  # (B, width)
        if output.requires_grad:
            output.retain_grad()


def take_snapshot(model: BatchNormMLP, contexts: Tensor, targets: Tensor, step: int = 0) -> Snapshot:
    """Look at one forward and backward pass, without an optimiser step.

    Args:
        model: in the mode to be looked at; its gradients are overwritten.
        contexts, targets: int64 (B, T) and (B,).
        step: optimiser steps before.
    """
    model.zero_grad()
    probe = Probe(model.layers)
    probe.attach()
    F.cross_entropy(model(contexts), targets).backward()  # type: ignore[no-untyped-call]  # PyTorch gives it no types
    probe.read_gradients()
    snapshot = probe.detach(step)
    assert snapshot is not None
    return snapshot


def _on_cpu(tensor: Tensor) -> Tensor:
    """float32, whatever precision it was computed in."""
    return tensor.detach().float().cpu()
