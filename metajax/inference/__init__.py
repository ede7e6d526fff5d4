"""Use of trained runs: predictions for user-supplied images, features, and scores on a few labeled images."""

from metajax.inference.labels import Labeled, label_images
from metajax.inference.load import ImageClassifier, ImageModel, load
from metajax.inference.scoring import Scored, Trial, score_model
from metajax.inference.support import Support, read_support

__all__ = [
  "ImageClassifier",
  "ImageModel",
  "Labeled",
  "Scored",
  "Support",
  "Trial",
  "label_images",
  "load",
  "read_support",
  "score_model",
]
