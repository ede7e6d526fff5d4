"""Use of trained runs and published encoders: predictions for images, features, and scores on a few labeled images."""

from metajax.inference.encoder import load_encoder
from metajax.inference.labels import Labeled, label_images
from metajax.inference.load import ImageClassifier, ImageModel, load
from metajax.inference.scoring import Contender, Scored, Trial, contender, pixels, score_model
from metajax.inference.support import Support, read_support

__all__ = [
  "Contender",
  "ImageClassifier",
  "ImageModel",
  "Labeled",
  "Scored",
  "Support",
  "Trial",
  "contender",
  "label_images",
  "load",
  "load_encoder",
  "pixels",
  "read_support",
  "score_model",
]
