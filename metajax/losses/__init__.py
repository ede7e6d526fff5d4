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
from metajax.losses.regression import squared_error

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
  "nt_xent",
  "row_weights",
  "siglip",
  "squared_error",
  "squared_error_of_scores",
  "supervised_contrastive",
  "triplet_margin",
]
