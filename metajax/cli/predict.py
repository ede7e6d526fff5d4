"""Labels images with a trained run or a published encoder, from a few labeled examples.

metajax predict runs/mine --support my_classes --images new_photos --output labels.csv
metajax predict --encoder dinov2-small --support my_classes --images new_photos      # without any training
"""

from pathlib import Path
from typing import Annotated, Literal

import tyro
from tyro.conf import Positional

from metajax.checks import counted
from metajax.cli._models import model_of
from metajax.cli._warnings import warn_of_overlap, warn_of_support
from metajax.experiment.bounds import Bounds, MayBeRemote
from metajax.experiment.command_line import command, typed
from metajax.inference.images import BATCH, INVERT, as_images, files_of
from metajax.inference.labels import check_output, label_images, read_labels
from metajax.inference.overlap import trained_images
from metajax.inference.page import left_out_accuracy, summarize, write_labels_page
from metajax.inference.support import read_support


def predict(
  support: Path,
  images: tuple[Path, ...],
  run: Annotated[Positional[Path | None], tyro.conf.arg(metavar="RUN"), MayBeRemote()] = None,
  encoder: Path | None = None,
  output: Path = Path("labels.csv"),
  threshold: Annotated[float, Bounds(0, 1)] = 0.0,
  invert: Literal["auto", "yes", "no"] = "auto",
  skip_unreadable: bool = False,
  page: bool = True,
):
  """Labels images with a trained run or a published encoder, from a few labeled examples of each class.

  Probabilities are calibrated on support images that are left out in turn, where a class has two or more. An image is
  marked as unlike all classes if its features are further from every class mean than 95% of the support images are from
  the mean of the others in their class. An interrupted command continues when it is repeated.

  Args:
    support: Labeled images: a folder with a subfolder per class, a .csv file with the columns path and label, or a .npz
      file.
    images: Images to label: files and folders.
    run: Folder of a finished run, or of an export.
    encoder: Published weights in place of a run: a .safetensors file or its folder, of a ViT, DeiT, DINOv2, SigLIP,
      CLIP or ResNet.
    output: File to write: .csv, or .jsonl with one JSON object per line.
    threshold: Leave images whose largest probability is lower without a label.
    invert: Exchange dark and light; "auto" does if the background is the opposite of that in training.
    skip_unreadable: Give images that cannot be read a row without a label, and leave them out of the support images,
      instead of stopping.
    page: Write a page of the labeled images next to the output.
  """
  check_output(output)
  files = files_of(images)
  model = model_of(run, encoder)
  if not skip_unreadable:  # named files are read before the support images take time
    as_images([str(place) for place in images if place.is_file()][:BATCH] or files[:1], model.form)
  labeled = read_support(support, model.form, skip_unreadable=skip_unreadable)
  for name in labeled.unreadable:
    print(f"left out of the support images: {name}")
  classifier = model.fit(labeled, invert=INVERT[invert])
  shots, queries = len(classifier.names), counted(len(files), "image")
  print(f"{len(classifier.classes)} classes, {shots} support images, {queries} to label")
  warnings = warn_of_overlap(model, trained_images(model.model.config["about"], classifier.names), shots)
  if classifier.invert:
    print("dark and light are exchanged: the model was trained on the opposite background (--invert no keeps them)")
  accuracy, fitted = left_out_accuracy(classifier), classifier.classifier
  if accuracy is None:
    print("one support image per class: probabilities are not calibrated, and no image is marked as unlike all classes")
  else:
    print(f"support images left out in turn: {accuracy:.1f}% right; temperature {fitted.temperature:.3g}")
    warnings += warn_of_support(classifier, accuracy)
  label_images(classifier, files, output, threshold=threshold, skip_unreadable=skip_unreadable)
  found = summarize(read_labels(output))
  unlabeled = f", {found.counts['']:,} without a label" if found.counts[""] else ""
  unlike = f", {found.unlike:,} unlike all classes" if found.unlike else ""
  print(f"labels: {output} ({counted(found.number, 'image')}{unlabeled}{unlike})")
  if page:
    path = output.with_suffix(".html")
    write_labels_page(path, found, classifier, command=typed(), threshold=threshold, warnings=warnings)
    print(f"page: {path}")


if __name__ == "__main__":
  command(predict, on_hosts=False)
