"""Checkpoints: written atomically in the background, and verified when read."""

from metajax.checkpoint.checkpoints import Checkpoints

__all__ = ["Checkpoints"]
