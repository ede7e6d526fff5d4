"""Augmentations on the device: `augmentation(key, example) -> example`, pure, of one example."""

from metajax.augment.rows import augment_batch, augment_examples

__all__ = ["augment_batch", "augment_examples"]
