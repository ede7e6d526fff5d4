"""Warnings of the commands that use a finished run."""

import sys
from collections.abc import Sequence
from pathlib import Path

from metajax.checks import counted
from metajax.experiment.summaries import summary_of
from metajax.inference.load import ImageClassifier, ImageModel, export_folder
from metajax.inference.overlap import overlap_warning


def warn_of_run(run: Path):
  """Warns of an export that is older than the run: one that was made longer, and has not ended."""
  if export_folder(run) == run.expanduser() or not (run / "run.json").is_file():
    return
  try:
    state = summary_of(run).state
  except (OSError, ValueError):  # predictions need the export alone
    return
  if state != "finished":
    _warn(f"{str(run)!r} is {state}: its export is from before; --resume ends the run and writes it anew")


def warn_of_overlap(model: ImageModel, found: Sequence[str], number: int) -> list[str]:
  """Warns of the `trained_images` among a number of support images; returns the warning if there is one."""
  said = overlap_warning(model.model.config["about"], found, number)
  if said is None:
    return []
  _warn(said)
  return [said]


def warn_of_support(classifier: ImageClassifier, accuracy: float) -> list[str]:
  """Warns of a score of support images that says little; returns the warnings.

  Args:
    classifier: The fitted classifier.
    accuracy: Percentage of support images that are right when they are left out in turn.
  """
  fitted, chance, said = classifier.classifier, 100 / len(classifier.classes), []
  if accuracy <= chance:
    said.append(
      f"support images left out in turn are no better than chance, {chance:.1f}%: label more images of each class"
    )
  number = fitted.labels.sum(0)
  if alone := [name for name, n in zip(classifier.classes, number, strict=True) if n < 2]:
    said.append(
      f"{counted(len(alone), 'class', 'classes')} with one support image, such as {alone[0]!r}: the score of images "
      "left out does not include them"
    )
  for one in said:
    _warn(one)
  return said


def _warn(text: str):
  print(f"warning: {text}", file=sys.stderr)
