"""A trained image-text model: a run of `experiments.clip`, or published weights of a CLIP or a SigLIP."""

import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments.families.image_flags import ImageData
from experiments.families.image_text.experiment import example_of, learner_of, optimizer_of, towers_of
from metajax import checks
from metajax.data import load_siglip_tokenizer, load_tokenizer
from metajax.experiment import read_run, states_of
from metajax.experiment.configuration import configuration
from metajax.experiment.finished_runs import seconds_of
from metajax.experiment.terminal import printable
from metajax.learners import clip
from metajax.networks import load_clip, load_siglip
from metajax.types import Learner, Network, Preprocessing

COMMAND = "experiments.clip"  # whose runs are read


class Model(NamedTuple):
  """A trained CLIP or SigLIP.

  Attributes:
    learner, params, state: Learner with its trained params and state.
    tokenize: `texts -> tokens`.
    text: Text tower.
    max_length: Maximum number of tokens per text.
    size: Side of an image, in pixels.
    channels: Channels of an image, 1 or 3.
    inverted: True for a model of glyphs, where ink is 1 on 0, while user-supplied images are on white.
    preprocessing: Preprocessing of published weights; None resizes without cropping, as in training.
    data: Flags that selected the training images of a run; None for published weights.
    padded: Whether the text tower reads the padding too, as SigLIP's does.
    said: Entries of records on the training: its seed, steps and seconds; of published weights 0.
  """

  learner: Learner
  params: dict
  state: dict
  tokenize: Callable[[Sequence[str]], np.ndarray]
  text: Network
  max_length: int
  size: int
  channels: int
  inverted: bool = False
  preprocessing: Preprocessing | None = None
  data: ImageData | None = None
  padded: bool = False
  said: Mapping[str, int | float] = {"seed": 0, "steps": 0, "train_seconds": 0}


def read_model(path: Path, tokenizer: Path | None = None, image_size: int | None = None) -> Model:
  """Reads a run of `experiments.clip`, or published weights: a CLIP by `metajax.networks.load_clip`, or a SigLIP's
  folder by `load_siglip`.

  Guesses of the loaders are printed as warnings.

  Raises:
    ValueError, OSError: if the path is neither, or has no tokenizer.
  """
  if (path / "run.json").is_file():
    if image_size is not None:
      raise ValueError(f"expected --image-size only with published weights, got it with the run {str(path)!r}")
    return _of_run(path)
  folder = path if path.is_dir() else path.parent
  read = _of_siglip if _is_siglip(folder) else _of_clip
  with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    model = read(path, tokenizer or folder, image_size)
  for one in said:
    print(f"warning: {printable(str(one.message))}", file=sys.stderr)
  return model


def _is_siglip(folder: Path) -> bool:
  """Whether a configuration of transformers, or of open_clip, is a SigLIP's; no configuration is not."""
  found = {}
  for name in ("config.json", "open_clip_config.json"):
    if (folder / name).is_file():
      found |= checks.parse_json(str(folder / name), (folder / name).read_bytes())
  model = found.get("model_cfg")
  tower = model.get("vision_cfg") if isinstance(model, dict) else None
  name = tower.get("timm_model_name") if isinstance(tower, dict) else None
  return found.get("model_type") in ("siglip", "siglip2") or "siglip" in str(name)


def _of_siglip(path: Path, tokenizer: Path, image_size: int | None) -> Model:
  found = load_siglip(path, image_size=image_size)
  words, longest = load_siglip_tokenizer(tokenizer), found.text.max_length
  if words.vocab_size > found.text.vocab_size:
    raise ValueError(f"expected a tokenizer of at most {found.text.vocab_size} tokens, got {words.vocab_size}")
  learner, state = clip(*found.networks, loss="siglip"), {"image": {}, "text": {}}
  given = (learner, found.params, state, lambda texts: words(texts, longest), found.networks.second, longest)
  return Model(*given, found.image.pixels, 3, preprocessing=found.preprocessing, padded=True)


def _of_clip(path: Path, tokenizer: Path, image_size: int | None) -> Model:
  found = load_clip(path, image_size=image_size)
  words = load_tokenizer(tokenizer)
  if words.vocab_size != found.towers.vocab_size:
    raise ValueError(f"expected a tokenizer with {found.towers.vocab_size} tokens, got {words.vocab_size}")
  tokenize = lambda texts: words(texts, found.towers.max_length)
  text, longest = found.networks.second, found.towers.max_length
  made = (clip(*found.networks), found.params, found.state, tokenize, text, longest, found.towers.pixels, 3)
  return Model(*made, preprocessing=found.preprocessing)


def _of_run(path: Path) -> Model:
  """Reads the first seed of a run of `experiments.clip`."""
  if configuration(path)["experiment"] != COMMAND:
    given = f"got one of {configuration(path)['experiment'][:60]} in {str(path)!r}"
    raise ValueError(f"expected a run of {COMMAND}, {given}")
  run = read_run(path, [COMMAND])
  (model, setup), words = run.config, load_tokenizer(path / "tokenizer.json")
  learner, channels = learner_of(model, setup.data, words.vocab_size), run.configuration["channels"]
  example = example_of(model, setup.data, words, channels)
  batches = lambda seed: lambda start=0, shard=(0, 1): iter([example])
  state = states_of(run, learner, optimizer_of(setup), batches, best=False)[0]
  tokenize, data = lambda texts: words(texts, model.text.max_length), setup.data
  text, drawn = towers_of(model, words.vocab_size).second, data.data == "glyphs"
  found = (learner, state.params, state.state, tokenize, text, model.text.max_length, data.size, channels)
  training = {"seed": run.training.seed, "steps": run.training.steps, "train_seconds": seconds_of(run) or 0}
  return Model(*found, inverted=drawn, data=data, said=training)
