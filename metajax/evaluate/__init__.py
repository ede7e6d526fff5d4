"""Scores of a trained learner: on held-out tasks, and of its frozen features."""

from metajax.evaluate.count_baselines import CountModel, bigram, independent_pixels
from metajax.evaluate.embed import assert_unchanged, embed_dataset
from metajax.evaluate.few_shot import adaptation_curve, few_shot_accuracy, few_shot_mse, one_shot_error
from metajax.evaluate.likelihood import dataset_log_prob, ratio_with_interval
from metajax.evaluate.probes import ProbeResult, linear_probe, nearest_neighbors, neighbor_classes
from metajax.evaluate.retrieval import retrieval
from metajax.evaluate.statistics import Score, mean_and_ci, mean_over_seeds, paired_difference
from metajax.evaluate.zero_shot import ZeroShot, prompts, zero_shot, zero_shot_classifier

__all__ = [
  "CountModel",
  "ProbeResult",
  "Score",
  "ZeroShot",
  "adaptation_curve",
  "assert_unchanged",
  "bigram",
  "dataset_log_prob",
  "embed_dataset",
  "few_shot_accuracy",
  "few_shot_mse",
  "independent_pixels",
  "linear_probe",
  "mean_and_ci",
  "mean_over_seeds",
  "nearest_neighbors",
  "neighbor_classes",
  "one_shot_error",
  "paired_difference",
  "prompts",
  "ratio_with_interval",
  "retrieval",
  "zero_shot",
  "zero_shot_classifier",
]
