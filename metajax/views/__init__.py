"""Augmentations on the device: `view(key, example) -> example`, pure, of one example."""

from metajax.views.rows import augment_batch, of_batch

__all__ = ["augment_batch", "of_batch"]
