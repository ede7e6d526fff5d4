"""Augmentations on the device: `view(key, example) -> example`, pure, of one example."""
