"""The pretext tasks by name, each with its classes, its tests and its figure."""

from collections.abc import Callable
from typing import Annotated, Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np

from experiments.families.pretext.data import ClipFlags
from experiments.families.pretext.evaluators import PretextEval
from experiments.families.pretext.montage import montage, with_spectrograms
from experiments.families.representation.data import ProbeSplits
from metajax.augment import augment_batch
from metajax.augment.audio import log_mel
from metajax.augment.image import color_jitter, random_resized_crop
from metajax.compose import with_preprocessing
from metajax.data import Recordings
from metajax.data.video.recordings import CLIPS
from metajax.experiment.bounds import Bounds
from metajax.networks import audio_conv
from metajax.pretexts import (
  RELATIONS,
  audio_visual,
  jigsaw,
  middle_tiles,
  order_prediction,
  relative_patch,
  rotation,
  shuffle_and_learn,
  transformation,
)
from metajax.pretexts.audio_visual import Negatives
from metajax.pretexts.tiles import normalized
from metajax.types import Pair

IMAGE = 3  # axes of an image
OfImages = Literal["rotation", "transformation", "relative_patch", "jigsaw"]
OfClips = Literal["shuffle_and_learn", "order_prediction", "audio_visual"]


QUESTIONS = 2000  # minimum number of questions about sounds; few examples get several questions each


class Tiles(NamedTuple):
  """Image tiles of relative_patch and jigsaw."""

  permutations: Annotated[int, Bounds(2, 2000)] = 24
  """Number of tile permutations that jigsaw classifies."""
  grid: Annotated[int, Bounds(2, 3)] = 3
  """Tiles per side of the image in jigsaw."""
  gap: Annotated[int, Bounds(0, 4096)] = 1
  """Minimum gap between tiles, in pixels."""
  jitter: Annotated[int, Bounds(0, 4096)] = 1
  """Maximum random shift of a tile, in pixels."""


class PretextTask(NamedTuple):
  """A pretext task.

  Attributes:
    task: `(key, batch) -> Examples`.
    classes: Names of the labels.
    show: `(inputs) -> images [n, h, w, c]`.
    prepare: `image encoder -> encoder of the task`: a Network, or a dictionary with one per input.
    questions: `(parts) -> [PretextEval]`, the task itself first.
    look: `images -> inputs of the encoder`, for embedding full images.
  """

  task: Callable
  classes: tuple[str, ...]
  show: Callable
  prepare: Callable
  questions: Callable
  look: Callable = lambda images: images


def of_crops(task: Callable) -> Callable:
  """The same task on random crops of at least half of an image; all frames of a clip share one crop."""
  crop = random_resized_crop(area=(0.5, 1.0))

  def augmentation(key, seen):
    return jax.vmap(lambda frame: crop(key, frame))(seen) if seen.ndim > IMAGE else crop(key, seen)

  def asked(key, batch):
    key, view_key = jax.random.split(key)
    if isinstance(batch, Pair):
      return task(key, batch._replace(first=augment_batch(augmentation, view_key, batch.first)))
    return task(key, augment_batch(augmentation, view_key, batch))

  return asked


def asked_of_images(name: OfImages, tiles: Tiles) -> PretextTask:
  """The pretext task on images with the given name.

  Raises:
    ValueError: as the task.
  """
  same = lambda encoder: encoder
  if name == "rotation":
    return _alone(rotation(), tuple(f"{90 * turn} degrees" for turn in range(4)), lambda images: images, same)
  if name == "transformation":
    crop, color = random_resized_crop(area=(0.3, 0.8), aspect=(1, 1)), color_jitter()
    return _alone(transformation(crop, color), RELATIONS, montage, same)
  permutations, grid, gap, jitter = tiles
  where = {"gap": gap, "jitter": jitter}
  # The encoder normalizes each tile, both in the task and for the images that it embeds.
  even = lambda encoder: with_preprocessing(encoder, lambda x: normalized(jnp.asarray(x)))
  if name == "relative_patch":
    places = ("upper left", "above", "upper right", "left", "right", "lower left", "below", "lower right")
    task = relative_patch(**where, normalize=False)
    return _alone(task, places, montage, even, middle_tiles(**where))
  task = jigsaw(permutations, grid, **where, normalize=False)
  named = tuple(f"order {k}" for k in range(permutations))
  return _alone(task, named, lambda tiles: montage(tiles, grid), even, middle_tiles(grid, **where))


def asked_of_clips(name: OfClips, clips: ClipFlags) -> PretextTask:
  """The pretext task on clips, or on images with sounds, with the given name.

  Raises:
    ValueError: as the task.
  """
  if name == "shuffle_and_learn":
    classes = ("out of order", "in order")
    return _alone(shuffle_and_learn(stride=clips.stride), classes, montage, lambda encoder: encoder)
  if name == "order_prediction":
    classes = ("first in the middle", "second in the middle", "third in the middle")
    return _alone(order_prediction(stride=clips.stride), classes, montage, lambda encoder: encoder)
  task = audio_visual(clips.window)
  heard = with_preprocessing(audio_conv(32), lambda samples: log_mel(samples, clips.sample_rate, mels=32))
  return PretextTask(
    task,
    ("another's sound", "its sound"),
    lambda inputs: with_spectrograms(inputs, clips.sample_rate),
    lambda encoder: {"seen": encoder, "heard": heard},
    lambda parts: _of_sounds(task, clips.window, parts),
  )


def _alone(task, classes, show, prepare, look=lambda images: images) -> PretextTask:
  def questions(parts):
    source = parts.test if parts.asked is None else parts.asked
    return [PretextEval("pretext", task, source, 100 / len(classes), groups=_groups(parts))]

  return PretextTask(task, classes, show, prepare, questions, look)


def _of_sounds(task: Callable, window: int, parts: ProbeSplits) -> list[PretextEval]:
  """Tests with all negatives, with each kind of negatives, on captions of seen and unseen words, and with swapped
  sounds."""
  source, heard = parts.asked, parts.unlabeled
  assert isinstance(source, Recordings) and isinstance(heard, Recordings)
  of_clips = source.images.ndim == CLIPS
  how: dict[str, Any] = {
    "source": source,
    "chance": 50.0,
    "rounds": max(1, QUESTIONS // len(source.images)),
    "groups": _groups(parts),
  }
  found = [PretextEval("pretext", task, **how)]
  if of_clips:
    each = get_args(Negatives)
    found += [PretextEval(f"pretext_{kind}", audio_visual(window, negatives=(kind,)), **how) for kind in each]
  if any(source.captions) and not of_clips:
    seen = only_seen_words(heard.captions, source.captions)
    kinds = ("seen", seen), ("unseen", ~seen)
    found += [PretextEval(f"pretext_{name}", task, **how, rows=rows) for name, rows in kinds if rows.sum() > 1]
  return [*found, PretextEval("pretext_swapped", swapped(task), **how)]


def _groups(parts) -> np.ndarray | None:
  """The groups of the recordings, or None if there are fewer than two."""
  return parts.groups if parts.groups is not None and len(np.unique(parts.groups)) > 1 else None


def only_seen_words(known: tuple[str, ...], asked: tuple[str, ...]) -> np.ndarray:
  """Mask `[n]` of the captions `asked` whose words all occur in the captions `known`."""
  words = lambda caption: {word.strip(".,;:!?()\"'").lower() for word in caption.split()} - {""}
  every = set().union(*map(words, known))
  return np.array([words(caption) <= every for caption in asked])


def swapped(task: Callable) -> Callable:
  """The same task with every sound from another example, a control: with many clips almost no signal remains."""

  def pretext(key, batch: Pair):
    return task(key, Pair(batch.first, jnp.roll(batch.second, len(batch.second) // 2, 0)))

  return pretext
