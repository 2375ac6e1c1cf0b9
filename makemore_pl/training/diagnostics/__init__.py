"""Seeing inside a network while it trains: activations, gradients, updates, and what is unhealthy in them."""

from makemore_pl.training.diagnostics.callback import Diagnostics

__all__ = ["Diagnostics"]
