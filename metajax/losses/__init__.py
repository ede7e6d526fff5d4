"""Arrays in, a scalar out."""

from metajax.losses.classification import (
  accuracy,
  check_fits,
  check_one_hot,
  cross_entropy,
  row_weights,
  squared_error,
  squared_error_of_scores,
)
from metajax.losses.contrastive.info_nce import info_nce, learned_scale
from metajax.losses.contrastive.nt_xent import nt_xent, supervised_contrastive
from metajax.losses.contrastive.siglip import siglip
from metajax.losses.language_model import vocabulary_cross_entropy, vocabulary_log_probabilities
from metajax.losses.metric import (
  batch_cross_entropy,
  batch_hard,
  batch_semi_hard,
  binary_cross_entropy,
  triplet_margin,
)
from metajax.losses.reconstruction import masked_reconstruction, normalised_patches, patch_statistics

__all__ = [
  "accuracy",
  "batch_cross_entropy",
  "batch_hard",
  "batch_semi_hard",
  "binary_cross_entropy",
  "check_fits",
  "check_one_hot",
  "cross_entropy",
  "info_nce",
  "learned_scale",
  "masked_reconstruction",
  "normalised_patches",
  "nt_xent",
  "patch_statistics",
  "row_weights",
  "siglip",
  "squared_error",
  "squared_error_of_scores",
  "supervised_contrastive",
  "triplet_margin",
  "vocabulary_cross_entropy",
  "vocabulary_log_probabilities",
]
