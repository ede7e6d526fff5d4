"""Combinators of networks, in plain JAX."""

from metajax.compose.combinators import on_pairs, parallel, tied, with_head
from metajax.compose.film import concat_context, film
from metajax.compose.head_init import slice_head, tile_head, zero_init_head
from metajax.compose.heads import cosine, linear, perceptron
from metajax.compose.low_rank import low_rank, merge_low_rank
from metajax.compose.wrappers import chunked, flatten, frozen, with_preprocessing, with_pretrained_params
from metajax.similarity import unit_rows

__all__ = [
  "chunked",
  "concat_context",
  "cosine",
  "film",
  "flatten",
  "frozen",
  "linear",
  "low_rank",
  "merge_low_rank",
  "on_pairs",
  "parallel",
  "perceptron",
  "slice_head",
  "tied",
  "tile_head",
  "unit_rows",
  "with_head",
  "with_preprocessing",
  "with_pretrained_params",
  "zero_init_head",
]
