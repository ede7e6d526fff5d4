"""The page of labeled images: a montage per predicted class, least certain first."""

import heapq
import math
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from metajax.checks import counted
from metajax.inference.images import read_images
from metajax.inference.labels import Labeled
from metajax.inference.load import ImageClassifier
from metajax.report import page
from metajax.report.montage import montage_figure

SHOWN = 12  # images of a class
CLASSES = 40  # with a figure
LISTED = 1000  # names


class Summary(NamedTuple):
  """What a page shows of a file of labels.

  Attributes:
    number: Number of images.
    counts: Number of images with each predicted class; "" for those without a label.
    uncertain: The least certain images of each predicted class.
    unlike: Number of images that are unlike all classes; None if unknown.
    unreadable: Names of images that cannot be read, with the reason, at most 1,000.
  """

  number: int
  counts: Counter
  uncertain: dict[str, list[Labeled]]
  unlike: int | None
  unreadable: list[str]


def summarize(rows: Iterable[Labeled]) -> Summary:
  """Reads rows once, in constant memory."""
  counts, heaps, unreadable, unlike, number = Counter(), {}, [], None, 0
  for number, row in enumerate(rows, 1):
    if row.error:
      unreadable += [f"{row.image}: {row.error}"] if len(unreadable) < LISTED else []
      counts[""] += 1
      continue
    counts[row.label] += 1
    if row.unlike is not None:
      unlike = (unlike or 0) + row.unlike
    heap = heaps.setdefault(row.label, [])
    entry = (-row.probability, number, row)  # the most certain one is dropped first
    (heapq.heappush if len(heap) < SHOWN else heapq.heappushpop)(heap, entry)
  uncertain = {label: [row for *_, row in sorted(heap, reverse=True)] for label, heap in heaps.items()}
  return Summary(number, counts, uncertain, unlike, unreadable)


def write_labels_page(
  path: Path,
  found: Summary,
  classifier: ImageClassifier,
  *,
  command: str,
  threshold: float = 0.0,
  warnings: Sequence[str] = (),
):
  """Writes the page of a file of labels.

  Args:
    path: HTML file.
    found: Summary of the file that `label_images` wrote.
    classifier: Classifier that labeled the images.
    command: Command line, shown on the page.
    threshold: Smallest probability of a label.
    warnings: Important messages, at the top of the page.
  """
  fitted = classifier.classifier
  with tempfile.TemporaryDirectory() as scratch:
    figures, shown = [], sorted(found.uncertain, key=lambda label: (label == "", label))[:CLASSES]
    for i, label in enumerate(shown):
      file = Path(scratch) / f"{i}.png"
      _draw(file, found.uncertain[label], classifier)
      number = found.counts[label]
      least = "" if number <= SHOWN else f", the {SHOWN} least certain"
      figures.append(
        (label or "No label", f"{counted(number, 'image')}{least}, with the nearest support image of each.", file)
      )
    more = len(found.uncertain) - len(shown)
    page(
      path,
      title="Labeled images",
      summary=_tiles(found, classifier),
      configuration={"command": command, "model": fitted.model.config["name"], **_settings(classifier, threshold)},
      records=[{"class": name, "support images": int(fitted.labels[:, i].sum()), "labeled images": found.counts[name]}
               for i, name in enumerate(fitted.classes)],
      figures=figures,
      notes=[_rule(classifier), *([("Images that cannot be read", found.unreadable)] if found.unreadable else [])],
      warnings=[*warnings, *([f"{more} more classes have no figure"] if more > 0 else [])],
    )  # fmt: skip


def _draw(file: Path, rows: list[Labeled], classifier: ImageClassifier):
  places = {name: i for i, name in enumerate(classifier.names)}
  images, unreadable = read_images([row.image for row in rows], classifier.form, classifier.invert)
  there = [i for i in range(len(rows)) if i not in unreadable]
  support = classifier.classifier.inputs[0][[places[rows[i].nearest] for i in there]]
  texts = [f"{100 * rows[i].probability:.0f}%  {Path(rows[i].image).name}" for i in there]
  montage_figure(images[there], support, texts, file, marked=[bool(rows[i].unlike) for i in there])


def _tiles(found: Summary, classifier: ImageClassifier) -> list[tuple[str, str, str]]:
  labeled = found.number - found.counts[""]
  tiles = [("Labeled", f"{labeled:,}", f"of {found.number:,} images"), ("Classes", str(len(classifier.classes)), "")]
  if found.unlike is not None:
    tiles.append(("Unlike all classes", f"{found.unlike:,}", "marked by an orange caption"))
  if (accuracy := left_out_accuracy(classifier)) is not None:
    tiles.append(("Support images", f"{accuracy:.1f}%", "right when left out"))
  return tiles


def left_out_accuracy(classifier: ImageClassifier) -> float | None:
  """Accuracy on the support images that were left out for calibration, in percent; None if there were none."""
  fitted = classifier.classifier
  if not len(fitted.left_out):
    return None
  return 100 * float((fitted.left_out_logits.argmax(1) == fitted.labels[fitted.left_out].argmax(1)).mean())


def _settings(classifier: ImageClassifier, threshold: float) -> dict:
  fitted = classifier.classifier
  said = {"temperature": f"{fitted.temperature:.4g}", "support images": len(fitted.labels), "threshold": threshold}
  return said | {"inverted": classifier.invert}


def _rule(classifier: ImageClassifier) -> tuple[str, list[str]]:
  fitted = classifier.classifier
  if fitted.threshold is None or math.isnan(fitted.threshold):
    return "Probabilities", [
      "Every class has one support image: probabilities are not calibrated, and no image is marked."
    ]
  left_out, threshold = len(fitted.left_out), f"{fitted.threshold:.4g}"
  return "Probabilities", [
    f"Calibrated with temperature {fitted.temperature:.4g} on {left_out} support images that were left out.",
    f"An image is unlike all classes if its features are further than {threshold} from every class mean: 95% of the "
    "support images are nearer to the mean of the others in their class.",
  ]
