"""Cross-validates trained runs on a few labeled images: will this work for my classes?

metajax score runs/mine --support my_classes
"""

from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from rich.console import Console
from rich.table import Table
from tyro.conf import Positional

from metajax import paths
from metajax.experiment import records
from metajax.experiment.bounds import Bounds, Count, Seed
from metajax.experiment.command_line import command
from metajax.inference.images import INVERT, must_invert
from metajax.inference.load import ImageModel, load_images_model
from metajax.inference.scoring import Contender, Scored, contender, of_features, pixels, score_model
from metajax.inference.support import Support, read_support

SHOWN = 20  # confusions and images


def score(
  runs: Positional[tuple[Path, ...]],
  support: Path,
  folds: Annotated[int, Bounds(2, 100)] = 5,
  repeats: Count = 4,
  seed: Seed = 0,
  encoder: Path | None = None,
  invert: Literal["auto", "yes", "no"] = "auto",
  output: Path | None = None,
):
  """Cross-validates trained runs on a few labeled images, by leave-one-out and repeated stratified folds.

  Prints the accuracy of each run with a 95% interval over images, next to the nearest class mean of pixels, and their
  paired differences; then which classes and images the first run confuses.

  Args:
    runs: Folders of finished runs, or of exports.
    support: Labeled images: a folder with a subfolder per class, a .csv file with the columns path and label, or a .npz
      file; two images or more per class.
    folds: Number of folds, at most the number of images of the smallest class.
    repeats: Number of random divisions into folds.
    seed: Random seed of the divisions.
    encoder: Published CLIP as a further baseline: a folder with its safetensors and configuration.
    invert: Exchange dark and light; "auto" does if the background is the opposite of that in training.
    output: JSON file for the scores.
  """
  if not runs:
    raise ValueError("expected one or more run folders, got none")
  models = [load_images_model(run) for run in runs]
  supports = [read_support(support, model.form) for model in models]
  first = supports[0]
  contenders = [_contender(*one, INVERT[invert]) for one in zip(_names(runs), models, supports, strict=True)]
  contenders += [pixels(first)] + ([] if encoder is None else [_published(encoder, support)])
  classes = len(set(first.labels))
  print(f"{classes} classes, {len(first.labels)} images; chance {100 / classes:.1f}%")
  scored = score_model(contenders, first.labels, folds=folds, repeats=repeats, seed=seed)
  Console().print(_table(scored, folds, repeats))
  for line in _confusions(scored[0], first.names):
    print(line)
  if output is not None:
    paths.write_whole(output, records_of(scored, first))
    print(f"scores: {output}")


def _names(runs: tuple[Path, ...]) -> list[str]:
  names = [run.resolve().name for run in runs]
  return names if len(set(names)) == len(names) else [str(run) for run in runs]


def _contender(name: str, model: ImageModel, support: Support, invert: bool | None) -> Contender:
  exchanged = must_invert(support.images, model.form) if invert is None else invert
  return contender(name, model, 255 - support.images if exchanged else support.images)


def _published(encoder: Path, support: Path) -> Contender:
  """The nearest class mean of a published CLIP's unit-length image features."""
  from metajax.inference.published import clip_features

  return of_features(f"{encoder.name}, nearest centroid", clip_features(encoder, support), unit=True)


def _table(scored: list[Scored], folds: int, repeats: int) -> Table:
  table = Table(title=None)
  table.add_column("run", overflow="fold")
  for heading in ("leave-one-out", f"{folds} folds x {repeats}", f"minus {scored[0].name}"):
    table.add_column(heading, justify="right")
  for one in scored:
    left_out = one.accuracy_leave_one_out
    ahead = "" if one is scored[0] else f"{one.ahead_of(scored[0])}"
    table.add_row(one.name, "" if left_out is None else f"{left_out}%", f"{one.accuracy}%", ahead)
  return table


def _confusions(scored: Scored, names: tuple[str, ...]) -> list[str]:
  """Lines on the classes and the images that a contender confuses."""
  apart = scored.confusion * (1 - np.eye(len(scored.classes)))
  order = [np.unravel_index(i, apart.shape) for i in np.argsort(-apart, axis=None, kind="stable")[:SHOWN]]
  lines = [f"  {scored.classes[i]} as {scored.classes[j]}: {100 * apart[i, j]:.0f}%" for i, j in order if apart[i, j]]
  if not lines:
    return [f"{scored.name} confuses no images"]
  lines = [f"\nclasses that {scored.name} confuses (percent of the true class):", *lines, "\nimages that it confuses:"]
  for row in scored.confused[:SHOWN]:
    wrong = scored.folds[scored.folds[:, row] != scored.truth[row], row]
    as_what = scored.classes[np.bincount(wrong).argmax()]
    lines.append(f"  {names[row]} as {as_what}, in {len(wrong)} of {len(scored.folds)} divisions")
  return lines


def records_of(scored: list[Scored], support: Support) -> bytes:
  """The scores as JSON."""
  import json

  found: list[dict[str, Any]] = []
  for one in scored:
    left_out, ahead = one.accuracy_leave_one_out, None if one is scored[0] else one.ahead_of(scored[0])
    found.append(
      records.stamped(
        learner=one.name,
        accuracy=one.accuracy._asdict(),
        leave_one_out=left_out and left_out._asdict(),
        minus_first=ahead and ahead._asdict(),
        confusion={name: row.round(4).tolist() for name, row in zip(one.classes, one.confusion, strict=True)},
        confused=[support.names[row] for row in one.confused],
      )
    )
  return (json.dumps(found, indent=1, ensure_ascii=False, default=lambda x: np.asarray(x).tolist()) + "\n").encode(
    errors="backslashreplace"
  )


if __name__ == "__main__":
  command(score)
