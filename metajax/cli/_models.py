"""The model of a command: a trained run, or a published encoder."""

from pathlib import Path

from metajax.cli._warnings import warn_of_run
from metajax.inference.encoder import load_encoder
from metajax.inference.load import ImageModel, load_images_model


def model_of(run: Path | None, encoder: Path | None) -> ImageModel:
  """Loads the run or the encoder of a command.

  Raises:
    FileNotFoundError, ValueError: If it cannot be read, or not exactly one of both is given.
  """
  if (run is None) == (encoder is None):
    given = "neither" if run is None else f"{str(run)!r} and --encoder {str(encoder)!r}"
    raise ValueError(f"expected the folder of a run or --encoder with published weights, got {given}")
  if encoder is not None:
    return load_encoder(encoder)
  assert run is not None
  model = load_images_model(run)
  warn_of_run(run)
  return model
