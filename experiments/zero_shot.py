"""Zero-shot classification of images by class names, with a trained CLIP, or a published CLIP or SigLIP.

python -m experiments.zero_shot runs/clip-flickr8k-* --classes "a dog in the water" "people at a party" --images photos
python -m experiments.zero_shot clip-vit-base-patch32 --classes cat dog --templates "a photo of a {}." --images photos
"""

import csv
import io
import os
from pathlib import Path
from typing import Annotated

import numpy as np
from tyro.conf import Positional

from experiments.families.image_text.model import Model, read_model
from metajax import checks
from metajax.data.files.folder import image_names
from metajax.data.files.image_file import UnreadableImage, read_image
from metajax.evaluate import embed_dataset, prompts, zero_shot_classifier
from metajax.experiment import command, records
from metajax.experiment.bounds import Bounds, Count
from metajax.experiment.terminal import encodable, printable
from metajax.report import write_whole
from metajax.types import Examples

BATCH = 64  # images


def main(
  model: Positional[Path],
  classes: tuple[str, ...],
  images: Path,
  templates: tuple[str, ...] = ("{}",),
  tokenizer: Path | None = None,
  image_size: Annotated[int | None, Bounds(1, 4096)] = None,
  top: Count = 3,
  output: Path | None = None,
):
  """Zero-shot classifies every image in a folder by class name.

  Prints one line per image, with the most likely classes and their probabilities in percent. Unreadable files are
  listed below the table, and are an error only if no image can be read.

  Args:
    model: Run folder of experiments.clip, or a folder or .safetensors file with the weights of a published CLIP or
      SigLIP.
    classes: Class names, as words or sentences.
    images: Folder of images, searched recursively, or a single image.
    templates: Prompt templates with a placeholder {} for the class name; their embeddings are averaged.
    tokenizer: Tokenizer of a published model; by default the one in the model's folder.
    image_size: Side of the input images in pixels, for a published model; by default that of its training.
    top: Number of classes to print per image.
    output: Output .csv file for the probabilities of all classes.
  """
  if len(classes) < 2 or len(set(classes)) < len(classes):
    raise ValueError(f"expected at least two distinct classes, got {list(classes)}")
  checks.count("--top", top)
  texts, of_class = prompts(classes, templates)
  if output is not None:
    output = checks.local_path("--output", output)
    records.check_writable(output.parent)
  files = image_names(images)
  found = read_model(model, tokenizer, image_size)
  tokens = found.tokenize(texts)
  _check_distinct(tokens, texts, of_class)
  shown, pixels, unreadable = _read_images(images, files, found)
  names = zero_shot_classifier(found.learner.embed, found.params, found.state, tokens, of_class)
  embedded = embed_dataset(found.learner.embed, found.params, found.state, _batches(pixels, found.inverted)).inputs
  shares = _softmax(np.exp(found.params["log_scale"]) * embedded @ names.T)
  _tell(shown, classes, shares, min(top, len(classes)))
  if unreadable:
    print(f"\n{len(unreadable)} of {len(files)} files cannot be read: {', '.join(map(printable, unreadable))}")
  if output is not None:
    _write(output, shown, classes, shares)


def _check_distinct(tokens, texts, of_class):
  """Refuses classes with equal tokens, such as texts that differ only in case or beyond the maximum length."""
  _, first, group = np.unique(tokens, axis=0, return_index=True, return_inverse=True)
  same = first[group.reshape(-1)]
  for i in np.flatnonzero(of_class[same] != of_class):
    raise ValueError(f"expected classes with different tokens, got {texts[same[i]]!r} and {texts[i]!r}")


def _read_images(images, files, found: Model):
  """Returns the names of readable images, the images, and the names of unreadable files with the reason."""
  shown, pixels, unreadable = [], [], []
  for name in files:
    path = images / name if images.is_dir() else images
    try:
      how = {"size": found.size, "channels": found.channels, "preprocessing": found.preprocessing}
      pixels.append(read_image(os.fspath(path), **how))
      shown.append(name)
    except UnreadableImage as error:
      unreadable.append(f"{name} ({error})")
  if not pixels:
    raise ValueError(f"expected a readable image in {str(images)!r}, got {', '.join(unreadable[:5])}")
  return shown, pixels, unreadable


def _batches(images, inverted):
  for start in range(0, len(images), BATCH):
    some = np.stack(images[start : start + BATCH])
    yield Examples(255 - some if inverted else some, np.zeros(len(some), np.int32))


def _softmax(logits):
  shares = np.exp(logits - logits.max(-1, keepdims=True))
  return 100 * shares / shares.sum(-1, keepdims=True)


def _tell(files, classes, shares, top):
  files, classes = [*map(printable, files)], [*map(printable, classes)]
  width = max(map(len, files))
  for name, row in zip(files, shares, strict=True):
    best = np.argsort(-row, kind="stable")[:top]
    print(f"{name:<{width}}  " + "  ".join(f"{classes[k]} {row[k]:.1f}%" for k in best))


def _write(path: Path, files, classes, shares):
  text = io.StringIO()
  table = csv.writer(text)
  table.writerow(["path", *map(encodable, classes)])
  rows = zip(map(encodable, files), shares, strict=True)
  table.writerows([name, *(f"{share:.4f}" for share in row)] for name, row in rows)
  write_whole(path, text.getvalue().encode())
  print(f"probabilities of all classes: {printable(str(path))}")


if __name__ == "__main__":
  command(main)
