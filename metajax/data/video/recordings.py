"""Images and clips with their sounds at random access, and batches of them as pure functions of (seed, step)."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from metajax import checks
from metajax.data._tensorflow import tf
from metajax.data.pipeline import check_batches, in_epochs
from metajax.data.sharding import in_order_of, rows_of_host
from metajax.data.video.audio_file import to_floats
from metajax.types import Batches, Pair

CLIPS = 5  # axes of clips
BYTES_IN_MEMORY = 8 * 2**30


class Recordings(NamedTuple):
  """Images or clips, most often with a sound, at random access.

  Attributes:
    images: uint8, images `[n, height, width, channels]`, or clips `[n, frames, height, width, channels]`.
    sounds: int16 `[n, samples]`, or None. Of clips, as many samples for each frame.
    frame_rate: frames a second; 0 of images.
    sample_rate: samples a second; 0 without sounds.
    names: of each, `[n]`.
    captions: what each is said to show, `[n]`; "" where nothing is said.
    factors: what is known of each, `{name: int32 or texts [n]}` or, of frames, `{name: int32 [n, frames]}`.
    unreadable: the files that could not be read and were left out.
  """

  images: np.ndarray
  sounds: np.ndarray | None
  frame_rate: float
  sample_rate: int
  names: tuple[str, ...]
  captions: tuple[str, ...]
  factors: dict[str, np.ndarray]
  unreadable: tuple[str, ...] = ()


def recordings(source: Recordings, *, batch_size: int, seed: int = 0) -> Batches:
  """Batches of recordings, epoch after epoch, each in a uniformly random order that depends on (seed, epoch) alone.

  Args:
    source: the recordings.
    batch_size: how many a batch, over all hosts.
    seed: any 64-bit integer.

  Returns:
    `batches(start=0, shard=(0, 1))`, as for `episodes`, of a `Pair`: images float32 `[batch_size/hosts, ...]` in
    [0, 1] and sounds float32 `[batch_size/hosts, samples]` from -1 to 1; or the images alone where there is no sound.

  Raises:
    ValueError: `batch_size` is less than 1.
  """
  _check(source)
  check_batches(batch_size, seed)

  def batches(start=0, shard=(0, 1)):
    offset, local = rows_of_host(start, shard, batch_size, "batch_size")
    rows = in_epochs(len(source.images), batch_size, seed, start).prefetch(tf.data.AUTOTUNE)
    return (_batch(source, some[offset : offset + local]) for some in rows.as_numpy_iterator())

  return batches


def recordings_in_order(source: Recordings, *, batch_size: int) -> Batches:
  """Every recording once, in its order: an evaluation's batches, which end, as `recordings` has them.

  The last batch may have fewer. Of a short one a host may have none.
  """
  _check(source)
  return in_order_of(len(source.images), batch_size, lambda rows: _batch(source, rows))


def select_recordings(source: Recordings, rows: npt.ArrayLike) -> Recordings:
  """Those of some rows, in the order given.

  Raises:
    ValueError: `rows` are not numbers of recordings.
  """
  _check(source)
  rows = np.asarray(rows)
  checks.integers("rows", rows if rows.size else rows.astype(np.int64), "n", low=0, high=len(source.images))
  rows = rows.astype(np.int64)
  return source._replace(
    images=source.images[rows],
    sounds=None if source.sounds is None else source.sounds[rows],
    names=tuple(source.names[row] for row in rows),
    captions=tuple(source.captions[row] for row in rows),
    factors={name: values[rows] for name, values in source.factors.items()},
  )


def cut_clips(
  source: Recordings, frames: int, *, every: int = 0, start: int = 0, stop: int | None = None
) -> Recordings:
  """The parts of clips of so many frames, with their sounds, that lie within frames `start` to `stop`: a `Recordings`.

  Args:
    source: of clips.
    frames: of each part.
    every: frames from the start of one part to the next's; by default `frames`: they do not overlap. What is left over
      at the end is in no part.
    start, stop: of each clip, in frames; by default all of it.

  Raises:
    ValueError: if there are no clips, or no part fits.
  """
  _check(source)
  for name, value, least in (("frames", frames, 1), ("every", every, 0), ("start", start, 0)):
    checks.count(name, value, least)
  if stop is not None:
    checks.count("stop", stop, 0)
  if source.images.ndim != CLIPS:
    raise ValueError(f"expected clips [n, frames, height, width, channels], got {list(source.images.shape)}")
  count, length = source.images.shape[:2]
  stop, every = length if stop is None else stop, every or frames
  if frames < 1 or every < 1 or not 0 <= start < stop <= length or stop - start < frames:
    given = f"{frames} frames every {every} within {start} to {stop}"
    raise ValueError(f"expected parts that fit into clips of {length} frames, got {given}")
  starts = range(start, stop - frames + 1, every)
  rows, parts = np.repeat(np.arange(count), len(starts)), np.tile(np.array(starts), count)

  def take(values, each):
    return np.stack([values[row, at * each : (at + frames) * each] for row, at in zip(rows, parts, strict=True)])

  of_frames = {name: values.ndim > 1 for name, values in source.factors.items()}
  return source._replace(
    images=take(source.images, 1),
    sounds=None if source.sounds is None else take(source.sounds, source.sounds.shape[1] // length),
    names=tuple(f"{source.names[row]} {at}" for row, at in zip(rows, parts, strict=True)),
    captions=tuple(source.captions[row] for row in rows),
    factors={name: take(v, 1) if of_frames[name] else v[rows] for name, v in source.factors.items()},
  )


def _check(source):
  if not isinstance(source, Recordings):
    raise ValueError(f"expected Recordings, as load_recordings gives, got {checks.describe(source)}")


def _batch(source: Recordings, rows):
  images = source.images[rows].astype(np.float32) / np.float32(255)
  return images if source.sounds is None else Pair(images, to_floats(source.sounds[rows]))


def check_bytes(name: str, number: int, each: int):
  """Refuses `number` recordings of `each` bytes of pixels that do not fit in memory.

  Raises:
    ValueError: with what they take.
  """
  if number * each > BYTES_IN_MEMORY:
    given = f"{number:,} of {each:,} bytes"
    raise ValueError(
      f"the recordings of {name!r} do not fit in {BYTES_IN_MEMORY:,} bytes: got {given}; take a smaller size"
    )
