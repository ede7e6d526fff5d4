"""Names pictures with sentences of one's own, by a CLIP that was trained here or that came from elsewhere.

python -m experiments.zero_shot runs/clip-flickr8k-* --classes "a dog in the water" "people at a party" --images photos
python -m experiments.zero_shot clip-vit-base-patch32 --classes cat dog --templates "a photo of a {}." --images photos
"""

import csv
import io
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tyro.conf import Positional

from experiments import clip, command_line, runs
from metajax.data import load_tokenizer
from metajax.data.folders import picture_names
from metajax.data.pillow import BrokenPicture, read_picture
from metajax.evaluate import class_embeddings, features, prompts
from metajax.learners import clip as clip_learner
from metajax.networks import load_clip
from metajax.report import write_whole
from metajax.types import Examples, Learner

BATCH = 64  # pictures


class Model(NamedTuple):
  """A CLIP that is ready to be used.

  Attributes:
    learner, params, state: what was learned.
    tokenize: texts to tokens.
    size: side of a picture, in pixels.
    channels: of a picture, 1 or 3.
    inverted: whether ink is 1 and its ground 0, as in glyphs, where pictures of one's own are on white.
  """

  learner: Learner
  params: dict
  state: dict
  tokenize: object
  size: int
  channels: int
  inverted: bool = False


def main(
  model: Positional[Path],
  classes: tuple[str, ...],
  images: Path,
  templates: tuple[str, ...] = ("{}",),
  tokenizer: Path | None = None,
  top: int = 3,
  output: Path | None = None,
):
  """Says of every picture in a folder which of some classes it is the likeliest to be of, by their names alone.

  Prints a table: a line a picture, with its likeliest classes and their shares in percent. Files that cannot be read
  are named below it, and are no error as long as there is a picture.

  Args:
    model: a run of experiments.clip; or a folder or .safetensors file with CLIP's weights.
    classes: what they are called, in words or whole sentences.
    images: the folder of the pictures, searched to the bottom; or one picture.
    templates: sentences with a place {} for the class, of which the mean is taken.
    tokenizer: of a model from elsewhere; by default the one in its folder.
    top: classes shown of each picture.
    output: a .csv file for the shares of all classes.
  """
  if len(classes) < 2 or len(set(classes)) < len(classes):
    raise ValueError(f"expected two classes or more, each once, got {list(classes)}")
  if top < 1:
    raise ValueError(f"expected --top to be at least 1, got {top}")
  texts, of_class = prompts(classes, templates)
  files = picture_names(images)
  found = read(model, tokenizer)
  shown, pictures, broken = [], [], []
  for name in files:
    path = images / name if images.is_dir() else images
    try:
      pictures.append(read_picture(os.fspath(path), size=found.size, channels=found.channels))
      shown.append(name)
    except BrokenPicture as error:
      broken.append(f"{name} ({error})")
  if not pictures:
    raise ValueError(f"expected a picture that can be read in {str(images)!r}, got {', '.join(broken[:5])}")
  names = class_embeddings(found.learner.embed, found.params, found.state, found.tokenize(texts), of_class)
  embedded = features(found.learner.embed, found.params, found.state, _batches(pictures, found.inverted)).inputs
  shares = _softmax(np.exp(found.params["log_scale"]) * embedded @ names.T)
  _tell(shown, classes, shares, min(top, len(classes)))
  if broken:
    print(f"\n{len(broken)} of {len(files)} files cannot be read: {', '.join(broken)}")
  if output is not None:
    _write(output, shown, classes, shares)


def read(path: Path, tokenizer: Path | None = None) -> Model:
  """A run of `experiments.clip`, or CLIP's weights as `metajax.networks.load_clip` reads them.

  Raises:
    ValueError, OSError: if it is neither, or has no tokenizer.
  """
  if (path / "run.json").is_file():
    module, flags = runs.flags_of(path)
    if module is not clip:
      raise ValueError(f"expected a run of experiments.clip, got one of {module.__name__} in {str(path)!r}")
    learner, params, state, tokenize, channels = clip.trained(path, flags)
    s = flags["setting"]
    return Model(learner, params, state, tokenize, s.size, channels, s.data == "glyphs")
  found = load_clip(path)
  words = load_tokenizer(tokenizer or (path if path.is_dir() else path.parent))
  if words.vocabulary != found.towers.vocabulary:
    raise ValueError(f"expected a tokenizer of {found.towers.vocabulary} tokens, got one of {words.vocabulary}")
  tokenize = lambda texts: words(texts, found.towers.length)
  state = {"picture": {}, "text": {}}
  return Model(clip_learner(*found.networks), found.params, state, tokenize, found.towers.pixels, 3)


def _batches(pictures, inverted):
  for start in range(0, len(pictures), BATCH):
    some = np.float32(np.stack(pictures[start : start + BATCH])) / np.float32(255)
    yield Examples(1 - some if inverted else some, np.zeros(len(some), np.int32))


def _softmax(logits):
  shares = np.exp(logits - logits.max(-1, keepdims=True))
  return 100 * shares / shares.sum(-1, keepdims=True)


def _tell(files, classes, shares, top):
  width = max(map(len, files))
  for name, row in zip(files, shares, strict=True):
    best = np.argsort(-row, kind="stable")[:top]
    print(f"{name:<{width}}  " + "  ".join(f"{classes[k]} {row[k]:.1f}%" for k in best))


def _write(path: Path, files, classes, shares):
  text = io.StringIO()
  table = csv.writer(text)
  table.writerow(["path", *classes])
  table.writerows([name, *(f"{share:.4f}" for share in row)] for name, row in zip(files, shares, strict=True))
  write_whole(path, text.getvalue().encode())
  print(f"shares of all classes: {path}")


if __name__ == "__main__":
  command_line.run(main)
