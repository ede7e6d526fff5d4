"""Invented labels: `pretext(key, batch) -> Examples`, pure, on the device, and over the whole batch."""

from metajax.pretexts.verification import distorted_pairs, one_example_pairs

__all__ = ["distorted_pairs", "one_example_pairs"]
