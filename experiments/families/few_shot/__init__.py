"""Few-shot classification: tasks from unseen classes, model selection on validation tasks, a pixel baseline."""

from experiments.families.data import ImageData
from experiments.families.encoder import Start, adapted_params, encoder_for, refuse
from experiments.families.few_shot.adapted import adapted_experiment
from experiments.families.few_shot.choice import Candidate, Choice, Tries, TrySteps
from experiments.families.few_shot.config import (
  ON_CPU,
  TESTS,
  TRAINING,
  Images,
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
  adapted_encoder,
  convolution_for,
  embedding_network,
  name_of,
  with_linear_head,
)
from experiments.families.few_shot.sizes import fewer_classes
from metajax.experiment import EvalMode, Experiment, Training, main

__all__ = [
  "ON_CPU",
  "TESTS",
  "TRAINING",
  "Adapted",
  "AdaptedHead",
  "Candidate",
  "Choice",
  "Embedding",
  "EvalMode",
  "Experiment",
  "ImageData",
  "Images",
  "InnerLoop",
  "Outer",
  "PairScore",
  "Setup",
  "Start",
  "Task",
  "Tests",
  "Training",
  "Tries",
  "TrySteps",
  "adapted_encoder",
  "adapted_experiment",
  "adapted_params",
  "convolution_for",
  "embedding_network",
  "encoder_for",
  "few_shot_experiment",
  "fewer_classes",
  "main",
  "most_ways",
  "name_of",
  "refuse",
  "schedule",
  "with_linear_head",
]
