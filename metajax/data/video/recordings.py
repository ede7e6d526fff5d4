"""Images or clips with sounds, with random access, and batches of them as pure functions of (seed, step)."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from metajax import checks
from metajax.data._tensorflow import tf
from metajax.data.pipeline import check_batches, in_epochs
from metajax.data.sharding import in_order_of, rows_of_host
from metajax.data.video.audio_file import to_floats
from metajax.types import Batches, Pair

CLIPS = 5  # number of axes of clips
BYTES_IN_MEMORY = 8 * 2**30


class Recordings(NamedTuple):
  """Images or clips, usually with sounds, with random access.

  Attributes:
    images: uint8, images `[n, height, width, channels]`, or clips `[n, frames, height, width, channels]`.
    sounds: int16 `[n, samples]`, or None. For clips, every frame has the same number of samples.
    frame_rate: frames per second; 0 for images.
    sample_rate: samples per second; 0 without sounds.
    names: name of each recording, `[n]`.
    captions: caption of each recording, `[n]`; "" for none.
    factors: known properties of recordings, `{name: int32 or strings [n]}`, or of frames, `{name: int32 [n, frames]}`.
    unreadable: files that could not be read and were skipped.
  """

  images: np.ndarray
  sounds: np.ndarray | None
  frame_rate: float
  sample_rate: int
  names: tuple[str, ...]
  captions: tuple[str, ...]
  factors: dict[str, np.ndarray]
  unreadable: tuple[str, ...] = ()


def recording_batches(source: Recordings, *, batch_size: int, seed: int = 0) -> Batches:
  """Batches of recordings, epoch after epoch, in a uniformly random order that depends only on (seed, epoch).

  Args:
    source: `Recordings`.
    batch_size: recordings per batch, over all hosts.
    seed: any 64-bit integer.

  Returns:
    `batches(start=0, shard=(0, 1))`, as for `episodes`, of a `Pair`: images uint8 `[batch_size/hosts, ...]`
    and sounds float32 `[batch_size/hosts, samples]` from -1 to 1; or only the images if there are no sounds.

  Raises:
    ValueError: if `batch_size` is less than 1.
  """
  _check(source)
  check_batches(batch_size, seed)

  def batches(start=0, shard=(0, 1)):
    offset, local = rows_of_host(start, shard, batch_size, "batch_size")
    rows = in_epochs(len(source.images), batch_size, seed, start).prefetch(tf.data.AUTOTUNE)
    return (_batch(source, some[offset : offset + local]) for some in rows.as_numpy_iterator())

  return batches


def eval_recording_batches(source: Recordings, *, batch_size: int) -> Batches:
  """Batches for evaluation: every recording once, in order; the iterator is finite.

  Batches are those of `recording_batches`, but the last one may be short, and a host may have no rows of it.
  """
  _check(source)
  return in_order_of(len(source.images), batch_size, lambda rows: _batch(source, rows))


def select_recordings(source: Recordings, rows: npt.ArrayLike) -> Recordings:
  """Selects recordings, in the given order.

  Args:
    source: `Recordings`.
    rows: indices of recordings.

  Returns:
    `Recordings` of these rows.

  Raises:
    ValueError: if `rows` are not indices of recordings.
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
  """Cuts clips, with their sounds, into shorter clips.

  Args:
    source: `Recordings` of clips.
    frames: frames per part.
    every: distance in frames between the starts of parts; by default `frames`, without overlap. A remainder is dropped.
    start, stop: range of frames of each clip that parts are cut from; by default all of it.

  Returns:
    `Recordings` of all parts of all clips.

  Raises:
    ValueError: if `source` holds images rather than clips, or no part fits.
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
  images = source.images[rows]
  return images if source.sounds is None else Pair(images, to_floats(source.sounds[rows]))


def check_bytes(name: str, number: int, each: int):
  """Raises ValueError if `number` recordings of `each` bytes of pixels do not fit in memory."""
  if number * each > BYTES_IN_MEMORY:
    given = f"{number:,} of {each:,} bytes"
    raise ValueError(
      f"the recordings of {name!r} do not fit in {BYTES_IN_MEMORY:,} bytes: got {given}; take a smaller size"
    )
