"""Arrays in, a scalar out."""

from metajax.losses.classification import (
  accuracy,
  check_fits,
  check_one_hot,
  cross_entropy,
  row_weights,
  squared_error_of_scores,
)
from metajax.losses.contrastive import info_nce, learned_scale, nt_xent, siglip, supervised_contrastive
from metajax.losses.metric import (
  batch_cross_entropy,
  batch_hard,
  batch_semi_hard,
  binary_cross_entropy,
  triplet_margin,
)
from metajax.losses.reconstruction import masked_reconstruction, normalised_patches, patch_statistics
from metajax.losses.regression import squared_error
from metajax.losses.vocabulary import vocabulary_cross_entropy, vocabulary_log_probabilities

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
