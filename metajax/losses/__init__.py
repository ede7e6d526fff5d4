"""Loss functions: arrays in, a scalar out."""

from metajax.losses.classification import (
  accuracy,
  check_fits,
  check_one_hot,
  cross_entropy,
  mse,
  row_weights,
  squared_error,
)
from metajax.losses.contrastive.info_nce import info_nce, logit_scale
from metajax.losses.contrastive.nt_xent import nt_xent, supervised_contrastive
from metajax.losses.contrastive.siglip import siglip
from metajax.losses.language_model import linear_cross_entropy, linear_log_prob
from metajax.losses.metric import (
  batch_cross_entropy,
  batch_hard,
  batch_semi_hard,
  binary_cross_entropy,
  triplet_margin,
)
from metajax.losses.reconstruction import masked_reconstruction, normalized_patches, patch_statistics

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
  "linear_cross_entropy",
  "linear_log_prob",
  "logit_scale",
  "masked_reconstruction",
  "mse",
  "normalized_patches",
  "nt_xent",
  "patch_statistics",
  "row_weights",
  "siglip",
  "squared_error",
  "supervised_contrastive",
  "triplet_margin",
]
