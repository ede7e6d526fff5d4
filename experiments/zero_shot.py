"""Zero-shot classification of images by class names, with a trained or a published CLIP.

python -m experiments.zero_shot runs/clip-flickr8k-* --classes "a dog in the water" "people at a party" --images photos
python -m experiments.zero_shot clip-vit-base-patch32 --classes cat dog --templates "a photo of a {}." --images photos
"""

import csv
import io
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
from tyro.conf import Positional

from experiments import clip
from experiments.families.image_text.experiment import example_of, learner_of, optimizer_of
from metajax import checks
from metajax.data import load_tokenizer
from metajax.data.files.folder import image_names
from metajax.data.files.image_file import UnreadableImage, read_image
from metajax.evaluate import embed_dataset, prompts, zero_shot_classifier
from metajax.experiment import command, read_run, records, states_of
from metajax.experiment.bounds import Bounds, Count
from metajax.experiment.configuration import configuration
from metajax.experiment.terminal import encodable, printable
from metajax.learners import clip as clip_learner
from metajax.networks import load_clip
from metajax.report import write_whole
from metajax.types import Examples, Learner, Preprocessing

BATCH = 64  # images


class Model(NamedTuple):
  """A trained CLIP.

  Attributes:
    learner, params, state: Learner with its trained params and state.
    tokenize: `texts -> tokens`.
    size: Side of an image, in pixels.
    channels: Channels of an image, 1 or 3.
    inverted: True for a model of glyphs, where ink is 1 on 0, while user-supplied images are on white.
    preprocessing: Preprocessing of published weights; None resizes without cropping, as in training.
  """

  learner: Learner
  params: dict
  state: dict
  tokenize: Callable[[Sequence[str]], np.ndarray]
  size: int
  channels: int
  inverted: bool = False
  preprocessing: Preprocessing | None = None


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
    model: Run folder of experiments.clip, or a folder or .safetensors file with the weights of a published CLIP.
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
  found = read(model, tokenizer, image_size)
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


def read(path: Path, tokenizer: Path | None = None, image_size: int | None = None) -> Model:
  """Reads a run of `experiments.clip`, or published CLIP weights by `metajax.networks.load_clip`.

  Guesses of `load_clip` are printed as warnings.

  Raises:
    ValueError, OSError: if the path is neither, or has no tokenizer.
  """
  if (path / "run.json").is_file():
    if image_size is not None:
      raise ValueError(f"expected --image-size only with published weights, got it with the run {str(path)!r}")
    return _of_run(path)
  with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    found = load_clip(path, image_size=image_size)
  for one in said:
    print(f"warning: {printable(str(one.message))}", file=sys.stderr)
  words = load_tokenizer(tokenizer or (path if path.is_dir() else path.parent))
  if words.vocab_size != found.towers.vocab_size:
    raise ValueError(f"expected a tokenizer with {found.towers.vocab_size} tokens, got {words.vocab_size}")
  tokenize = lambda texts: words(texts, found.towers.max_length)
  state, pixels = {"image": {}, "text": {}}, found.towers.pixels
  learner = clip_learner(*found.networks)
  return Model(learner, found.params, state, tokenize, pixels, 3, preprocessing=found.preprocessing)


def _of_run(path: Path) -> Model:
  """Reads the first seed of a run of `experiments.clip`."""
  if configuration(path)["experiment"] != clip.__name__:
    given = f"got one of {configuration(path)['experiment'][:60]} in {str(path)!r}"
    raise ValueError(f"expected a run of experiments.clip, {given}")
  run = read_run(path, [clip.__name__])
  (model, setup), words = run.config, load_tokenizer(path / "tokenizer.json")
  learner, channels = learner_of(model, setup.data, words.vocab_size), run.configuration["channels"]
  example = example_of(model, setup.data, words, channels)
  batches = lambda seed: lambda start=0, shard=(0, 1): iter([example])
  state = states_of(run, learner, optimizer_of(setup), batches, best=False)[0]
  tokenize, data = lambda texts: words(texts, model.text.max_length), setup.data
  return Model(learner, state.params, state.state, tokenize, data.size, channels, data.data == "glyphs")


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
    some = np.asarray(np.stack(images[start : start + BATCH]), np.float32) / np.float32(255)
    yield Examples(1 - some if inverted else some, np.zeros(len(some), np.int32))


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
