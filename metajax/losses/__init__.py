"""Arrays in, a scalar out."""

from metajax.losses.classification import (
  accuracy,
  check_fits,
  check_one_hot,
  cross_entropy,
  row_weights,
  squared_error_of_scores,
)
from metajax.losses.metric import batch_hard, batch_semi_hard, binary_cross_entropy, triplet_margin
from metajax.losses.regression import squared_error

__all__ = [
  "accuracy",
  "batch_hard",
  "batch_semi_hard",
  "binary_cross_entropy",
  "check_fits",
  "check_one_hot",
  "cross_entropy",
  "row_weights",
  "squared_error",
  "squared_error_of_scores",
  "triplet_margin",
]
