"""Data of pretext tasks on clips and sounds: training recordings, held-out recordings, and frames for probes."""

from typing import Annotated, NamedTuple

import numpy as np

from experiments.families.data import ImageData
from experiments.families.image_flags import refuse_distribution
from experiments.families.representation.config import Probing, settings_of
from experiments.families.representation.data import OF_UNSEEN, VALIDATION, ProbeSplits
from metajax.data import (
  ImageDataset,
  Recordings,
  cut_clips,
  from_arrays,
  load_recordings,
  select_classes,
  select_rows,
  split_within_classes,
)
from metajax.data.video.recordings import CLIPS
from metajax.experiment.bounds import ABOVE_0, Bounds, Count

LATER = 0.6  # fraction of each clip for training, where a data set has one split; the rest is held out
LEAST = 10  # images per probed class
DEALT = (0, 0, 0, 1, 2)  # part of consecutive moments: probe training, validation, test
LOUDNESSES = ("silent", "soft", "middling", "loud")


class ClipFlags(NamedTuple):
  """Video clips and sounds."""

  window: Count = 4
  """Frames per moment in audio_visual, which matches a moment with a sound."""
  stride: Count = 1
  """Distance between the frames to put in order, in frames."""
  frames: Count = 16
  """Frames per part into which user-supplied clips are cut."""
  frame_rate: Annotated[float, Bounds(ABOVE_0, 1000)] = 8.0
  """Frames per second to which user-supplied clips are resampled."""
  sample_rate: Annotated[int, Bounds(1000, 10**6)] = 8000
  """Samples per second: user-supplied sounds are resampled to this rate, TFDS sounds must have it."""
  label: str = ""
  """Factor that frozen features are probed for; by default the phase of sprites, the height of moving_glyphs, the
  current loudness of talking_clips, and otherwise the first factor of the data set."""


def load_recorded(flags: ImageData, probing: Probing, clips: ClipFlags, sound: bool = True) -> ProbeSplits:
  """Loads recordings, with or without `sound`: "train" for pretraining, "test" for the pretext test and the probes.

  For talking_clips, which has one split, the first six tenths of every clip are "train", in parts of three windows, and
  later windows are "test".

  Raises:
    ValueError, OSError: as `load_recordings`, or if the recordings have no sound.
  """
  refuse_distribution(flags, "recordings")
  parts = _load(flags, probing, clips, sound)
  for part in (parts.unlabeled, parts.asked) if sound else ():
    if not isinstance(part, Recordings) or part.sounds is None:
      raise ValueError(f"expected recordings with sound, got {flags.data}, which has none")
    if part.sample_rate != clips.sample_rate:
      raise ValueError(f"expected --sample-rate {part.sample_rate} for {flags.data}, got {clips.sample_rate}")
  return parts


def _load(flags: ImageData, probing: Probing, clips: ClipFlags, sound: bool) -> ProbeSplits:
  load = lambda split: load_recordings(
    flags.data,
    split,
    size=flags.size,
    frames=clips.frames,
    frame_rate=clips.frame_rate,
    sample_rate=clips.sample_rate,
    download=flags.download,
    skip_unreadable=flags.skip_unreadable,
    sound=sound,
  )
  if flags.data in ("talking_clips", "sprites") and clips.label:
    raise ValueError(f"expected no --label for {flags.data}, which has a fixed one, got {clips.label!r}")
  if flags.data == "talking_clips":
    return _earlier_and_later(load_recordings(flags.data, "train", size=flags.size), clips, sound)
  train, test = load("train"), load("test")
  if flags.data == "sprites":
    return _sprites(train, test)
  label = clips.label or ("height" if flags.data == "moving_glyphs" else _first_factor(flags, train))
  for part in (train, test):
    if label not in part.factors:
      raise ValueError(f"expected --label to be one of {', '.join(sorted(part.factors)) or 'none'}, got {label!r}")
  return _of_factor(train, test, label, settings_of(probing), probing.test_queries)


def _sprites(train: Recordings, test: Recordings) -> ProbeSplits:
  """Sprites, probed for the phase: the frame (of six), the action (of three) and the direction (of three).

  No character is in two parts.
  """
  length = test.images.shape[1]
  pose = 3 * test.factors["factors_5"] + test.factors["factors_6"]
  phase = length * pose[:, None] + np.arange(length)
  characters = np.unique(test.factors["character"])
  ends = np.rint(np.cumsum(OF_UNSEEN) * len(characters)).astype(int)[:-1]
  dealt = np.split(np.random.RandomState(0).permutation(characters), ends)
  labeled = _frames(test._replace(factors={"phase": phase}), "phase", list(range(length)))
  whose = np.repeat(test.factors["character"], length)
  probed, validation, asked = (select_rows(labeled, np.flatnonzero(np.isin(whose, some))) for some in dealt)
  return ProbeSplits(train, probed, validation, asked, True, labeled, test)


def _earlier_and_later(whole: Recordings, clips: ClipFlags, sound: bool) -> ProbeSplits:
  """Talking clips, probed for the loudness of the moment, in four equally frequent classes per clip.

  Consecutive moments are dealt to the parts in turn.
  """
  length = whole.images.shape[1]
  border, part = round(LATER * length), 3 * clips.window
  train = cut_clips(whole, part, every=clips.window, stop=border)
  test = cut_clips(whole, part, every=clips.window, start=border)
  sounds = np.asarray(whole.sounds, np.float64).reshape(len(whole.images), length, -1)
  loud = np.sqrt(np.square(sounds).mean(-1))
  ranks = np.argsort(np.argsort(loud, -1), -1) * len(LOUDNESSES) // length
  blocks = np.arange(length) // clips.window % len(DEALT)
  three = []
  for part in range(3):
    frames = np.isin(blocks, np.flatnonzero(np.array(DEALT) == part))
    images, labels = whole.images[:, frames].reshape(-1, *whole.images.shape[2:]), ranks[:, frames].reshape(-1)
    three.append(from_arrays(images, labels, classes=LOUDNESSES))
  if not sound:
    train, test = (one._replace(sounds=None, sample_rate=0) for one in (train, test))
  probed, validation, asked = three
  return ProbeSplits(train, probed, validation, asked, False, None, test, test.factors["name"])


def _of_factor(train: Recordings, test: Recordings, label: str, tests, queries: int) -> ProbeSplits:
  """Recordings probed for a factor.

  The classes are the values that are frequent in "train" and occur in "test". For a factor of frames, and if the parts
  share fewer than two such values, the classes and all labeled images come from "test".
  """
  of_frames = test.factors[label].ndim > 1
  values, counts = np.unique(train.factors[label], return_counts=True)
  known = [v for v, n in zip(values, counts, strict=True) if n >= LEAST and np.isin(v, test.factors[label])]
  groups = test.factors.get("file")
  if of_frames or len(known) < 2:
    clips = test.images.ndim == CLIPS
    frames = [test.images.shape[1] // 2] if of_frames or not clips else list(range(test.images.shape[1]))
    labeled = _often(_frames(test, label, frames), LEAST, label)
    parts = split_within_classes(labeled, OF_UNSEEN, seed=0)
    return ProbeSplits(train, *parts, True, _for_tasks(labeled, tests, queries), asked=test, groups=groups)
  labeled, tested = (_frames(_only(part, label, known), label, [0], known) for part in (train, test))
  parts = split_within_classes(labeled, (1 - VALIDATION, VALIDATION), seed=0)
  return ProbeSplits(train, *parts, tested, False, _for_tasks(tested, tests, queries), asked=test, groups=groups)


def _often(source: ImageDataset, least: int, label: str) -> ImageDataset:
  """The source restricted to classes with at least `least` images.

  Raises:
    ValueError: if fewer than two classes remain.
  """
  many = np.flatnonzero(np.bincount(source.labels, minlength=len(source.classes)) >= least)
  if len(many) < 2:
    raise ValueError(f"expected at least two values of {label!r} with at least {least} images, got {len(many)}")
  return select_classes(source, many)


def _for_tasks(source: ImageDataset, tests, queries: int) -> ImageDataset | None:
  """The classes with enough images for few-shot tasks; None, with a printed remark, if they are too few."""
  ways, shots = (max(values) for values in zip(*tests, strict=True))
  many = np.flatnonzero(np.bincount(source.labels, minlength=len(source.classes)) >= shots + queries)
  if len(many) < ways:
    print(f"no few-shot tasks: only {len(many)} classes have {shots + queries} images, for {ways}-way tasks")
    return None
  return select_classes(source, many)


def _only(part: Recordings, label, known) -> Recordings:
  rows = np.flatnonzero(np.isin(part.factors[label], known))
  return part._replace(images=part.images[rows], factors={label: part.factors[label][rows]})


def _frames(part: Recordings, label: str, frames: list[int], known=None) -> ImageDataset:
  """The given frames of every clip, or the images, labeled with a factor."""
  images, values = part.images, part.factors[label]
  if images.ndim == CLIPS:
    images = images[:, frames].reshape(-1, *images.shape[2:])
    values = values[:, frames].reshape(-1) if values.ndim > 1 else np.repeat(values, len(frames))
  known = np.unique(values) if known is None else np.asarray(known)
  return from_arrays(images, np.searchsorted(known, values), classes=[f"{label} {v}" for v in known])


def _first_factor(flags, part: Recordings) -> str:
  if not part.factors:
    raise ValueError(f"expected {flags.data} to have a factor for probes, got none")
  return next(iter(part.factors))
