"""Pretraining without labels: what is learned, and what frozen features are worth beside two baselines."""

from experiments.families.data import ImageData
from experiments.families.representation.config import Outer, Probing, RepresentationConfig
from experiments.families.representation.encoders import EncoderFlags, encoder_of
from experiments.families.representation.evaluators import FrozenFeatures
from experiments.families.representation.experiment import representation_experiment, without_labels
from experiments.families.representation.figures import views
from metajax.experiment import RUN, Experiment, RunFlags, Training, main

TRAINING = Training(seeds_at_once=1)

__all__ = [
  "RUN",
  "TRAINING",
  "EncoderFlags",
  "Experiment",
  "FrozenFeatures",
  "ImageData",
  "Outer",
  "Probing",
  "RepresentationConfig",
  "RunFlags",
  "Training",
  "encoder_of",
  "main",
  "representation_experiment",
  "views",
  "without_labels",
]
