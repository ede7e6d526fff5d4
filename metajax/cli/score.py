"""Cross-validates trained runs on a few labeled images: will this work for my classes?

metajax score runs/mine --support my_classes
metajax score runs/mine --support my_classes --encoder dinov2-small      # next to a published encoder
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from rich.console import Console
from rich.table import Table

from metajax import paths
from metajax.cli._warnings import warn_of_overlap, warn_of_run
from metajax.experiment import records
from metajax.experiment.bounds import Bounds, Count, RunPaths, Seed
from metajax.experiment.command_line import command
from metajax.inference.encoder import load_encoder
from metajax.inference.images import INVERT, must_invert
from metajax.inference.load import ImageModel, load_images_model
from metajax.inference.overlap import trained_images
from metajax.inference.scoring import Contender, Scored, contender, pixels, score_model
from metajax.inference.support import Support, read_support

SHOWN = 10  # images that are confused


def score(
  support: Path,
  runs: RunPaths = (),
  folds: Annotated[int, Bounds(2, 100)] = 5,
  repeats: Count = 4,
  seed: Seed = 0,
  encoder: Path | None = None,
  invert: Literal["auto", "yes", "no"] = "auto",
  skip_unreadable: bool = False,
  output: Path | None = None,
):
  """Cross-validates trained runs on a few labeled images, by leave-one-out and repeated stratified folds.

  Prints the accuracy of each run with a 95% interval over images, next to the nearest class mean of pixels, and their
  paired differences; then the accuracy of each class by the first run, and the images that it confuses.

  Args:
    runs: Folders of finished runs, or of exports.
    support: Labeled images: a folder with a subfolder per class, a .csv file with the columns path and label, or a .npz
      file; two images or more per class.
    folds: Number of folds, at most the number of images of the smallest class.
    repeats: Number of random divisions into folds.
    seed: Random seed of the divisions.
    encoder: Published weights to score next to the runs, or alone: a .safetensors file or its folder, of a ViT, DeiT,
      DINOv2, SigLIP, CLIP or ResNet.
    invert: Exchange dark and light; "auto" does if the background is the opposite of that in training.
    skip_unreadable: Leave out images that cannot be read, instead of stopping.
    output: JSON file for the scores.
  """
  if not runs and encoder is None:
    raise ValueError("expected one or more run folders, or --encoder with published weights, got none")
  models = [load_images_model(run) for run in runs] + ([] if encoder is None else [load_encoder(encoder)])
  names = _names(runs if encoder is None else (*runs, encoder))
  for run in runs:
    warn_of_run(run)
  supports = [read_support(support, model.form, skip_unreadable=skip_unreadable) for model in models]
  first = supports[0]
  for name in first.unreadable:
    print(f"left out: {name}")
  contenders = [_contender(*one, INVERT[invert]) for one in zip(names, models, supports, strict=True)]
  trained = [trained_images(model.model.config["about"], first.names) for model in models]
  contenders.append(pixels(first))
  classes = len(set(first.labels))
  side = models[0].form.size
  print(f"{classes} classes, {len(first.labels)} images; chance {100 / classes:.1f}%; pixels at {side} x {side}")
  scored = score_model(contenders, first.labels, folds=folds, repeats=repeats, seed=seed)
  Console().print(_table(scored, folds, repeats))
  for model, found in zip(models, trained, strict=True):
    warn_of_overlap(model, found, len(first.names))
  Console().print(_classes(scored[0]))
  for line in _confused(scored[0], first.names):
    print(line)
  if output is not None:
    paths.write_whole(output, records_of(scored, first, [len(names) for names in trained]))
    print(f"scores: {output}")


def _names(runs: tuple[Path, ...]) -> list[str]:
  names = [run.resolve().name for run in runs]
  return names if len(set(names)) == len(names) else [str(run) for run in runs]


def _contender(name: str, model: ImageModel, support: Support, invert: bool | None) -> Contender:
  exchanged = must_invert(support.images, model.form) if invert is None else invert
  return contender(name, model, 255 - support.images if exchanged else support.images)


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


def _classes(scored: Scored) -> Table:
  """The accuracy of each class over the folds, and the class that it is most often taken for."""
  table = Table(title=f"classes by {scored.name}", title_justify="left")
  for heading, justify in (("class", "left"), ("images", "right"), ("accuracy", "right"), ("taken for", "left")):
    table.add_column(heading, justify=justify, overflow="fold")
  confusion, counts = scored.confusion, np.bincount(scored.truth)
  for i in np.argsort(confusion.diagonal(), kind="stable"):
    others = confusion[i] * (np.arange(len(confusion)) != i)
    other = f"{scored.classes[others.argmax()]} ({100 * others.max():.0f}%)" if others.max() else ""
    table.add_row(scored.classes[i], str(counts[i]), f"{100 * confusion[i, i]:.0f}%", other)
  return table


def _confused(scored: Scored, names: tuple[str, ...]) -> list[str]:
  """Lines on the images that a contender most often gets wrong."""
  if not len(scored.confused):
    return [f"{scored.name} confuses no images"]
  more = len(scored.confused) - SHOWN
  lines = [f"images that {scored.name} confuses most often" + f" ({more} more are confused)" * (more > 0) + ":"]
  for row in scored.confused[:SHOWN]:
    wrong = scored.folds[scored.folds[:, row] != scored.truth[row], row]
    as_what = scored.classes[np.bincount(wrong).argmax()]
    lines.append(f"  {names[row]} as {as_what}, in {len(wrong)} of {len(scored.folds)} repeats")
  return lines


def records_of(scored: list[Scored], support: Support, trained: Sequence[int] = ()) -> bytes:
  """The scores as JSON; `trained` counts the images that each run may have been trained on."""
  import json

  found: list[dict[str, Any]] = []
  for i, one in enumerate(scored):
    left_out, ahead = one.accuracy_leave_one_out, None if one is scored[0] else one.ahead_of(scored[0])
    found.append(
      records.stamped(
        learner=one.name,
        accuracy=one.accuracy._asdict(),
        leave_one_out=left_out and left_out._asdict(),
        images_of_the_training=trained[i] if i < len(trained) else 0,
        minus_first=ahead and ahead._asdict(),
        confusion={name: row.round(4).tolist() for name, row in zip(one.classes, one.confusion, strict=True)},
        confused=[support.names[row] for row in one.confused],
      )
    )
  return (json.dumps(found, indent=1, ensure_ascii=False, default=lambda x: np.asarray(x).tolist()) + "\n").encode(
    errors="backslashreplace"
  )


if __name__ == "__main__":
  command(score, on_hosts=False)
