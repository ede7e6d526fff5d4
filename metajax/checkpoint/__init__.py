"""Checkpoints: written atomically in the background, and verified when read."""

from metajax.checkpoint.checkpoints import Checkpoints
from metajax.checkpoint.manager import checked_folder
from metajax.checkpoint.staged import is_complete

__all__ = ["Checkpoints", "checked_folder", "is_complete"]
