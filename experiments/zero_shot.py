"""Names images with sentences of one's own, by a CLIP that was trained here or that came from elsewhere.

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
  """A CLIP that is ready to be used.

  Attributes:
    learner, params, state: what was learned.
    tokenize: texts to tokens.
    size: side of an image, in pixels.
    channels: of an image, 1 or 3.
    inverted: whether ink is 1 and its ground 0, as in glyphs, where images of one's own are on white.
    preprocessing: what published weights want; None: images are squashed, as in training.
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
  """Says of every image in a folder which of some classes it is the likeliest to be of, by their names alone.

  Prints a table: a line an image, with its likeliest classes and their shares in percent. Files that cannot be read
  are named below it, and are no error as long as there is an image.

  Args:
    model: a run of experiments.clip; or a folder or .safetensors file with CLIP's weights.
    classes: what they are called, in words or whole sentences.
    images: the folder of the images, searched to the bottom; or one image.
    templates: sentences with a place {} for the class, of which the mean is taken.
    tokenizer: of a model from elsewhere; by default the one in its folder.
    image_size: side of the images that a model from elsewhere sees, if another than its own.
    top: classes shown of each image.
    output: a .csv file for the shares of all classes.
  """
  if len(classes) < 2 or len(set(classes)) < len(classes):
    raise ValueError(f"expected two classes or more, each once, got {list(classes)}")
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
  """A run of `experiments.clip`, or CLIP's weights as `metajax.networks.load_clip` reads them.

  What `load_clip` has to guess is printed as a warning.

  Raises:
    ValueError, OSError: if it is neither, or has no tokenizer.
  """
  if (path / "run.json").is_file():
    if image_size is not None:
      raise ValueError(f"expected --image-size of weights from elsewhere alone, got it with the run {str(path)!r}")
    return _of_run(path)
  with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    found = load_clip(path, image_size=image_size)
  for one in said:
    print(f"warning: {printable(str(one.message))}", file=sys.stderr)
  words = load_tokenizer(tokenizer or (path if path.is_dir() else path.parent))
  if words.vocab_size != found.towers.vocab_size:
    raise ValueError(f"expected a tokenizer of {found.towers.vocab_size} tokens, got one of {words.vocab_size}")
  tokenize = lambda texts: words(texts, found.towers.max_length)
  state, pixels = {"image": {}, "text": {}}, found.towers.pixels
  learner = clip_learner(*found.networks)
  return Model(learner, found.params, state, tokenize, pixels, 3, preprocessing=found.preprocessing)


def _of_run(path: Path) -> Model:
  """A run of `experiments.clip`, of its first seed."""
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
  """Refuses classes of which the model reads the same, as it does of texts that differ beyond its length or in case."""
  _, first, group = np.unique(tokens, axis=0, return_index=True, return_inverse=True)
  same = first[group.reshape(-1)]
  for i in np.flatnonzero(of_class[same] != of_class):
    raise ValueError(f"expected classes that the model can tell apart, got {texts[same[i]]!r} and {texts[i]!r}")


def _read_images(images, files, found: Model):
  """The names of the images that can be read, these, and the names of the others with the reason."""
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
    raise ValueError(f"expected an image that can be read in {str(images)!r}, got {', '.join(unreadable[:5])}")
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
  print(f"shares of all classes: {printable(str(path))}")


if __name__ == "__main__":
  command(main)
