"""Exports of trained learners: parameters, a configuration and StableHLO programs for jax and numpy."""

from metajax.export.images import ImageFormat, image_format
from metajax.export.inputs import example_of, inputs_of
from metajax.export.model import Classifier, Model, Prediction, described_inputs
from metajax.export.model import load as load_exported
from metajax.export.write import write_export

EXPORT = "export"  # subfolder of a run

__all__ = [
  "EXPORT",
  "Classifier",
  "ImageFormat",
  "Model",
  "Prediction",
  "described_inputs",
  "example_of",
  "image_format",
  "inputs_of",
  "load_exported",
  "write_export",
]
