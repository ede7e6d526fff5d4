"""Pretext tasks, labels made from the data: `pretext(key, batch) -> Examples`, a pure function of a full batch."""

from metajax.pretexts.audio_visual import audio_visual
from metajax.pretexts.jigsaw import jigsaw, least_hamming_distance, permutations_apart
from metajax.pretexts.relative_patch import relative_patch
from metajax.pretexts.rotation import rotation
from metajax.pretexts.shuffle_and_learn import order_prediction, shuffle_and_learn
from metajax.pretexts.tiles import middle_tiles, tiles
from metajax.pretexts.transformation import RELATIONS, transformation

__all__ = [
  "RELATIONS",
  "audio_visual",
  "jigsaw",
  "least_hamming_distance",
  "middle_tiles",
  "order_prediction",
  "permutations_apart",
  "relative_patch",
  "rotation",
  "shuffle_and_learn",
  "tiles",
  "transformation",
]
