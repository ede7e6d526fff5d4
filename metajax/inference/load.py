"""A trained run as a function from a few labeled images to a classifier."""

import contextlib
import os
import re
import shlex
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from metajax.export import EXPORT, Classifier, ImageFormat, Model, Prediction, described_inputs, load_exported
from metajax.inference.images import as_images, each_image, must_invert
from metajax.inference.support import Support, read_support
from metajax.paths import place, read_json


class ImageClassifier(NamedTuple):
  """A classifier of images; a call returns probabilities `[n, classes]`.

  Attributes:
    classifier: Classifier of arrays.
    form: Format of the images.
    invert: Whether dark and light are exchanged, as the model was trained on the opposite background.
    names: Name of each support image.
  """

  classifier: Classifier
  form: ImageFormat
  invert: bool
  names: tuple[str, ...]

  def __repr__(self):
    return f"Image{self.classifier!r}"

  @property
  def classes(self) -> tuple[str, ...]:
    """Classes in the order of the probabilities."""
    return self.classifier.classes

  def __call__(self, images: Any) -> np.ndarray:
    """Returns the probabilities of the classes, float32 `[n, classes]`, for images as for `as_images`."""
    return self.classifier(as_images(images, self.form, self.invert))

  def predict(self, images: Any) -> Prediction:
    """Returns labels, probabilities, and the nearest support images; `names` holds the path of each image file."""
    found = list(each_image(images))
    names = [image if isinstance(image, str) else f"image {i}" for i, image in enumerate(found)]
    return self.classifier.predict(as_images(found, self.form, self.invert))._replace(names=names)


class ImageModel(NamedTuple):
  """A trained model of images.

  Attributes:
    model: Model of arrays.
    form: Format of the images.
  """

  model: Model
  form: ImageFormat

  def __repr__(self):
    return f"ImageModel({self.model.config['name']!r}, {self.form.size} x {self.form.size} pixels)"

  def embed(self, images: Any, *, invert: bool = False) -> np.ndarray:
    """Returns the features of images, float32 `[n, d]`."""
    return self.model.embed(as_images(images, self.form, invert))

  def fit(self, support: Any, *, invert: bool | None = None) -> ImageClassifier:
    """Returns a classifier of the classes of a few labeled images.

    Args:
      support: A folder `class/*.png`, a `.csv` or `.npz` file, `{class: images}`, or `(images, labels)`.
      invert: Whether to exchange dark and light; by default, if the images have a plain background that is the opposite
        of that in training, such as dark characters on white for a model of light characters on black.

    Raises:
      FileNotFoundError, ValueError: If images cannot be read, or there are too few or too many classes.
    """
    read = read_support(support, self.form)
    invert = must_invert(read.images, self.form) if invert is None else invert
    fitted = self.model.fit(255 - read.images if invert else read.images, read.labels)
    return ImageClassifier(fitted, self.form, invert, read.names)


def load(run: str | os.PathLike) -> ImageModel | Model:
  """Loads a trained run, from the export in its folder; no code that the folder names is imported.

  Args:
    run: Folder of a finished run, or of an export.

  Returns:
    An `ImageModel` with `embed(images)` and `fit(support)`, whose result maps images to probabilities; a `Model` of
    arrays if the run was not trained on images.

  Raises:
    FileNotFoundError: If the folder holds no export.
    ValueError: If the export is damaged or of another version.

  Example:
    `classifier = metajax.load("runs/mine").fit("my_images"); probabilities = classifier(["new/1.jpg", "new/2.jpg"])`
  """
  model = load_exported(export_folder(run))
  return ImageModel(model, ImageFormat(**model.config["images"])) if model.config["images"] else model


def load_images_model(run: str | os.PathLike) -> ImageModel:
  """Loads a run that was trained on images.

  Raises:
    FileNotFoundError, ValueError: As `load`, and if the run was trained on other inputs.
  """
  model = load(run)
  if not isinstance(model, ImageModel):
    given = described_inputs(model.config)
    raise ValueError(f"expected a run that was trained on images, got one on {given} in {str(run)!r}")
  return model


def export_folder(run: str | os.PathLike) -> Path:
  """The folder of the export of a run, or the folder itself if it is an export.

  Raises:
    FileNotFoundError: If there is none.
  """
  folder = place("the folder of a run", run)
  if (folder / "config.json").is_file():
    return folder
  if (folder / EXPORT / "config.json").is_file():
    return folder / EXPORT
  if parts := sorted(path.parent.parent.name for path in folder.glob(f"*/{EXPORT}/config.json")):
    raise ValueError(f"expected one of the runs in {str(folder)!r}, such as {str(folder / parts[0])!r}")
  if (folder / "run.json").is_file():
    unfinished = "" if (folder / "records.json").is_file() else ", which has not finished"
    again = f"`python -m {_command_of(folder)} --folder {shlex.quote(str(folder))} --resume`"
    raise FileNotFoundError(
      f"expected a run with an export, got {str(folder)!r}{unfinished}: {again} ends it and writes one"
    )
  raise FileNotFoundError(f"expected the folder of a finished run or of an export, got {str(folder)!r}")


def _command_of(folder: Path) -> str:
  """The name of a run's command; "EXPERIMENT" if it cannot be read."""
  with contextlib.suppress(OSError, ValueError):
    name = read_json(folder / "run.json").get("experiment")
    if isinstance(name, str) and re.fullmatch(r"[\w.]{1,100}", name):
      return name
  return "EXPERIMENT"


__all__ = ["ImageClassifier", "ImageModel", "Support", "export_folder", "load", "load_images_model"]
