"""Networks from networks, in plain JAX."""

from metajax.compose.combinators import beside, on_pairs, tied, with_head
from metajax.compose.film import concatenated, modulated
from metajax.compose.head_init import first_ways, repeated_for_all_ways, zeros_for_all_ways
from metajax.compose.heads import cosine, linear, perceptron
from metajax.compose.wrappers import chunked, flatten, frozen, prepared, started
from metajax.similarity import unit_rows

__all__ = [
  "beside",
  "chunked",
  "concatenated",
  "cosine",
  "first_ways",
  "flatten",
  "frozen",
  "linear",
  "modulated",
  "on_pairs",
  "perceptron",
  "prepared",
  "repeated_for_all_ways",
  "started",
  "tied",
  "unit_rows",
  "with_head",
  "zeros_for_all_ways",
]
