"""Networks from networks, in plain JAX."""

from metajax.compose.combinators import beside, on_pairs, tied, with_head
from metajax.compose.film import concatenated, modulated
from metajax.compose.head_init import slice_head, tile_head, zero_init_head
from metajax.compose.heads import cosine, linear, perceptron
from metajax.compose.wrappers import chunked, flatten, frozen, prepared, started
from metajax.similarity import unit_rows

__all__ = [
  "beside",
  "chunked",
  "concatenated",
  "cosine",
  "flatten",
  "frozen",
  "linear",
  "modulated",
  "on_pairs",
  "perceptron",
  "prepared",
  "slice_head",
  "started",
  "tied",
  "tile_head",
  "unit_rows",
  "with_head",
  "zero_init_head",
]
