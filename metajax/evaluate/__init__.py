"""Scores of a trained learner: on tasks it has not seen, and of its frozen features."""

from metajax.evaluate.count_baselines import Counted, bigram, independent_pixels
from metajax.evaluate.embed import features, frozen
from metajax.evaluate.few_shot import adaptation_curve, few_shot_accuracy, few_shot_error, one_shot_runs
from metajax.evaluate.likelihood import dataset_log_prob, rate
from metajax.evaluate.probes import Probed, linear_probe, nearest_neighbors, neighbor_classes
from metajax.evaluate.retrieval import retrieval
from metajax.evaluate.statistics import Score, over_seeds, paired_difference, summarize
from metajax.evaluate.zero_shot import ZeroShot, class_embeddings, prompts, zero_shot

__all__ = [
  "Counted",
  "Probed",
  "Score",
  "ZeroShot",
  "adaptation_curve",
  "bigram",
  "class_embeddings",
  "dataset_log_prob",
  "features",
  "few_shot_accuracy",
  "few_shot_error",
  "frozen",
  "independent_pixels",
  "linear_probe",
  "nearest_neighbors",
  "neighbor_classes",
  "one_shot_runs",
  "over_seeds",
  "paired_difference",
  "prompts",
  "rate",
  "retrieval",
  "summarize",
  "zero_shot",
]
