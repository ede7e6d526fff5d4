"""Augmentations on the device: `view(key, example) -> example`, pure, of one example."""

from metajax.views.rows import each_row, of_batch

__all__ = ["each_row", "of_batch"]
