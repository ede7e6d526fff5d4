"""Checkpoints: whole or not at all, written while training goes on, checked when they are read."""

from metajax.checkpoint.checkpoints import Checkpoints

__all__ = ["Checkpoints"]
