"""Few-shot classification: tasks from unseen classes, model selection on validation tasks, a pixel baseline."""

from experiments.families.data import ImageData
from experiments.families.encoder import Start, adapted_params, encoder_for, refuse
from experiments.families.few_shot.adapted import adapted_experiment, under_both_norms
from experiments.families.few_shot.config import (
  ON_CPU,
  TESTS,
  TRAINING,
  Outer,
  Setup,
  Task,
  Tests,
  most_ways,
  schedule,
)
from experiments.families.few_shot.experiment import few_shot_experiment
from experiments.families.few_shot.figures import PairScore
from experiments.families.few_shot.inner_loop import InnerLoop
from experiments.families.few_shot.networks import (
  Adapted,
  AdaptedHead,
  Embedding,
  convolution_for,
  distorted,
  embedding_network,
  in_the_middle,
  strided,
  with_linear_head,
  with_start,
)
from experiments.families.few_shot.sizes import fewer_classes
from metajax.experiment import EvalMode, Experiment, Training, main

__all__ = [
  "ON_CPU",
  "TESTS",
  "TRAINING",
  "Adapted",
  "AdaptedHead",
  "Embedding",
  "EvalMode",
  "Experiment",
  "ImageData",
  "InnerLoop",
  "Outer",
  "PairScore",
  "Setup",
  "Start",
  "Task",
  "Tests",
  "Training",
  "adapted_experiment",
  "adapted_params",
  "convolution_for",
  "distorted",
  "embedding_network",
  "encoder_for",
  "few_shot_experiment",
  "fewer_classes",
  "in_the_middle",
  "main",
  "most_ways",
  "refuse",
  "schedule",
  "strided",
  "under_both_norms",
  "with_linear_head",
  "with_start",
]
