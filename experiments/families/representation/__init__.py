"""Pretraining without labels, and evaluation of frozen features against two baselines."""

from experiments.families.data import ImageData
from experiments.families.representation.config import TRAINING, Outer, Probing, Setup
from experiments.families.representation.encoders import EncoderFlags, encoder_of
from experiments.families.representation.evaluators import FrozenFeatures
from experiments.families.representation.experiment import from_originals, representation_experiment, without_labels
from experiments.families.representation.figures import views
from metajax.experiment import Experiment, Training, main

__all__ = [
  "TRAINING",
  "EncoderFlags",
  "Experiment",
  "FrozenFeatures",
  "ImageData",
  "Outer",
  "Probing",
  "Setup",
  "Training",
  "encoder_of",
  "from_originals",
  "main",
  "representation_experiment",
  "views",
  "without_labels",
]
