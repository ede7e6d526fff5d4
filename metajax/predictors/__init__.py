"""Ways to turn an embedding and a labeled support set into a classifier.

A predictor maps an `embed` to a Learner's `predict`: `predictor(learner.embed)`. Any embedding works. Bind further
arguments with `functools.partial`.
"""

from metajax.predictors.clip_adapter import clip_adapter
from metajax.predictors.closed_form import centered, nearest_centroid, nearest_neighbor, normalized, ridge
from metajax.predictors.coop import coop, with_context
from metajax.predictors.fine_tuning import adapted_head, fine_tuned, perceptron_head
from metajax.predictors.image_text import class_texts, zero_shot
from metajax.predictors.information import tim, tim_logits
from metajax.predictors.leave_one_out import leave_one_out
from metajax.predictors.logits import (
  EMPTY_WAY,
  attention,
  attention_logits,
  centroid_cosines,
  centroid_logits,
  class_means,
  largest_by_way,
  nearest_logits,
  ridge_logits,
  without_empty_ways,
)
from metajax.predictors.lp_plus_plus import lp_plus_plus, lp_plus_plus_logits
from metajax.predictors.prototypes import fine_tuned_prototypes
from metajax.predictors.tip_adapter import tip_adapter, tip_adapter_f, tip_adapter_logits
from metajax.predictors.transductive import bd_cspn, laplacian_logits, laplacian_shot, rectified_logits
from metajax.predictors.transport import pt_map, pt_map_logits
from metajax.similarity import cosines, squared_distances

__all__ = [
  "EMPTY_WAY",
  "adapted_head",
  "attention",
  "attention_logits",
  "bd_cspn",
  "centered",
  "centroid_cosines",
  "centroid_logits",
  "class_means",
  "class_texts",
  "clip_adapter",
  "coop",
  "cosines",
  "fine_tuned",
  "fine_tuned_prototypes",
  "laplacian_logits",
  "laplacian_shot",
  "largest_by_way",
  "leave_one_out",
  "lp_plus_plus",
  "lp_plus_plus_logits",
  "nearest_centroid",
  "nearest_logits",
  "nearest_neighbor",
  "normalized",
  "perceptron_head",
  "pt_map",
  "pt_map_logits",
  "rectified_logits",
  "ridge",
  "ridge_logits",
  "squared_distances",
  "tim",
  "tim_logits",
  "tip_adapter",
  "tip_adapter_f",
  "tip_adapter_logits",
  "with_context",
  "without_empty_ways",
  "zero_shot",
]
