"""Loads recordings by name: the built-in moving glyphs, TFDS sets of clips or of images with sounds, a folder."""

import numpy as np

from metajax import checks
from metajax.data._tensorflow import tf, tfds
from metajax.data.builtin.moving_glyphs import moving_glyphs
from metajax.data.files.opening import checked_name
from metajax.data.load import check_how, is_own
from metajax.data.pipeline import plain
from metajax.data.text.captions import TEXTS
from metajax.data.tfds.builder import prepared
from metajax.data.tfds.decoding import reason
from metajax.data.video.audio_file import to_16_bits
from metajax.data.video.recordings import Recordings, check_bytes
from metajax.data.video.user_recordings import own_recordings
from metajax.paths import AnyPath

MOST_FRAMES, MOST_RATE, MOST_SECONDS = 2**20, 1_000_000, 86_400


def load_recordings(
  name: AnyPath,
  split: str = "train",
  *,
  size: int = 64,
  frames: int = 16,
  frame_rate: float = 8.0,
  sample_rate: int = 8000,
  seconds: float = 2.0,
  data_dir: AnyPath | None = None,
  download: bool = False,
  seed: int = 0,
  skip_unreadable: bool = False,
  sound: bool = True,
) -> Recordings:
  """Loads one part of a set of clips, or of images with sounds.

  - "moving_glyphs", drawn on the fly: see `metajax.data.builtin.moving_glyphs`.
  - a TFDS set, e.g. "sprites", "talking_clips" or "spoken_stamps": one Video, or else one 8-bit Image; and at most one
    sound (required for images), an Audio feature or a one-dimensional int16 tensor, all of one length, mixed to mono. A
    text named caption, title, description or the like is the caption; other texts, Scalars, ClassLabels and integer
    tensors are factors (a tensor "factors" of k numbers becomes "factors_0" to "factors_k-1"). `split` is official.
  - user-supplied files: a folder, searched recursively, of clips (.mp4, .webm, .mov, .avi, .mkv, .gif, ...), or of
    images with sounds of the same name (`cat.png`, `cat.wav`). Clips are resampled to `frame_rate`, sounds to mono at
    `sample_rate`, and cut into parts of `frames` frames; a remainder is dropped. A short sound is padded with silence;
    a clip without sound counts as broken if others have sound. Sounds of images are cut or padded to `seconds`. Files
    are distributed by `seed`: 80% to "train", 10% each to "validation" and "test"; "all" is everything. Factors are the
    "file" of each, and the "folder" if there are subfolders.

  Args:
    name: name of the data set, or a path: it begins with "/", "./", "../" or "~", or names a folder but no data set.
    split: part of the data set.
    size: side of images and frames in pixels; they are squashed to a square.
    frames, frame_rate: length and rate of user-supplied clips; `frames` also applies to moving glyphs.
    sample_rate: samples per second: target for user files, a multiple of `frame_rate`; actual rate of TFDS tensors.
    seconds: duration of the sounds of user-supplied images.
    data_dir, download, seed: as for `metajax.data.load`; the seed also applies to moving glyphs.
    skip_unreadable: whether unreadable files and TFDS records are skipped and listed in `unreadable`.
    sound: whether to load sounds; if False, they are neither read nor required.

  Returns:
    `Recordings`.

  Raises:
    FileNotFoundError, ConnectionError, NotADirectoryError, PermissionError: as for `metajax.data.load`.
    ModuleNotFoundError: if user-supplied clips or sounds need PyAV, which is not installed.
    ValueError: if an argument is out of range, the set has other features, its recordings exceed 8 GiB, or files are
      broken (or shorter than `frames`) and `skip_unreadable` is False.
  """
  name = checked_name(name)
  _check_how(split, size, seed, data_dir, frames, sample_rate, frame_rate=frame_rate, seconds=seconds)
  checks.flags(download=download, skip_unreadable=skip_unreadable, sound=sound)
  if name == "moving_glyphs":
    found = moving_glyphs(split, size=size, frames=frames, seed=seed)
  elif is_own(name, data_dir, download):
    how = {"size": size, "frames": frames, "frame_rate": frame_rate, "sample_rate": sample_rate, "seconds": seconds}
    return own_recordings(name, split, seed, skip_unreadable, how | {"sound": sound})
  else:
    found = _tfds(name, split, size, sample_rate, data_dir, download, skip_unreadable)
  return found if sound else found._replace(sounds=None, sample_rate=0)


def _check_how(split, size, seed, data_dir, frames, sample_rate, **of_time):
  check_how(split, size, seed, data_dir)
  checks.count("frames", frames, most=MOST_FRAMES)
  checks.count("sample_rate", sample_rate, most=MOST_RATE)
  for what, most in (("frame_rate", MOST_RATE), ("seconds", MOST_SECONDS)):
    checks.positive(what, of_time[what])
    checks.in_range(what, of_time[what], 0, most)


def _tfds(name, split, size, sample_rate, data_dir, download, skip_unreadable) -> Recordings:
  builder = prepared(name, data_dir, download)
  if split not in builder.info.splits:
    raise ValueError(f"unknown split {split!r} of {name}: expected one of {', '.join(builder.info.splits)}")
  image, sound, caption, texts, factors = _features(builder.info)
  feature = builder.info.features[image]
  clips = isinstance(feature, tfds.features.Video)
  shape = feature.shape[-4:] if clips else feature.shape
  if clips and not shape[0]:
    raise ValueError(f"expected the clips of {name!r} to have one number of frames, got {feature.shape}")
  number = builder.info.splits[split].num_examples
  check_bytes(name, number, (shape[0] if clips else 1) * size * size * shape[-1])
  config = tfds.ReadConfig(interleave_cycle_length=1, try_autocache=False, add_tfds_id=skip_unreadable)
  kept = {key for key in (image, sound, caption, *texts, *factors) if key} | ({"tfds_id"} if skip_unreadable else set())

  def small(record):
    shown = tf.image.resize(record[image], (size, size), method="area")
    return {key: record[key] for key in kept} | {image: tf.cast(tf.round(shown), tf.uint8)}

  data = builder.as_dataset(split=split, read_config=config).map(plain(small), num_parallel_calls=tf.data.AUTOTUNE)
  try:
    found = list((data.ignore_errors() if skip_unreadable else data).as_numpy_iterator())
  except tf.errors.OpError as error:
    said = f"{reason(error)}; pass skip_unreadable=True (--skip-unreadable) to leave out those that cannot"
    raise ValueError(f"the records of {name!r} cannot be read: {said}") from None
  unreadable = _missing(builder.info.splits[split], found) if skip_unreadable else ()
  if not found:
    raise ValueError(f"expected a record of {name!r} that can be read, got {number} that cannot")
  sounds = _sounds(name, [record[sound] for record in found]) if sound else None
  rate = getattr(builder.info.features[sound], "sample_rate", None) or sample_rate if sound else 0
  if sounds is not None and clips and sounds.shape[1] % shape[0]:
    raise ValueError(f"expected as many samples per frame in {name!r}, got {sounds.shape[1]} for {shape[0]} frames")
  stacked = {key: _of_32_bits(name, key, np.stack([record[key] for record in found])) for key in factors}
  return Recordings(
    images=np.stack([record[image] for record in found]),
    sounds=sounds,
    frame_rate=shape[0] * rate / sounds.shape[1] if clips and sounds is not None else 0.0,
    sample_rate=rate,
    names=tuple(f"{split} {i}" for i in range(len(found))),
    captions=tuple(record[caption].decode() if caption else "" for record in found),
    factors=dict(part for key, values in stacked.items() for part in _columns(key, values))
    | {key: np.array([record[key].decode() for record in found]) for key in texts},
    unreadable=unreadable,
  )


def _missing(split, found) -> tuple[str, ...]:
  """The records of a split that were not read, named by file and number."""
  there = {record["tfds_id"].decode() for record in found}
  files = zip(sorted(split.filenames), split.shard_lengths, strict=True)
  return tuple(one for file, number in files for i in range(number) if (one := f"{file}__{i}") not in there)


def _features(info):
  """The feature names of a set's images or clips, sound, caption, other texts and factors; None if missing."""
  features = dict(info.features.items()) if hasattr(info.features, "items") else {}

  def of(*kinds):
    return [k for k, f in features.items() if isinstance(f, kinds)]

  images = of(tfds.features.Video) or of(tfds.features.Image)
  whole = [k for k, f in features.items() if type(f) is tfds.features.Tensor and len(f.shape) == 1]
  fixed = [k for k in whole if features[k].shape[0] is not None]
  sounds = of(tfds.features.Audio) + [k for k in whole if features[k].np_dtype == np.int16]
  eight_bits = all(getattr(features[k], "np_dtype", None) == np.uint8 for k in images)
  lacks_sound = not sounds and not of(tfds.features.Video)
  if len(images) != 1 or not eight_bits or len(sounds) > 1 or lacks_sound:
    given = {k: type(f).__name__ for k, f in features.items()}
    raise ValueError(
      f"{info.name!r} holds no recordings: expected one Video, or one Image and a sound, of 8 bits, and one sound at "
      f"most, an Audio or an int16 tensor of one axis, got the features {given}"
    )
  numbers = [k for k in fixed if k not in sounds and np.issubdtype(features[k].np_dtype, np.integer)]
  scalars = [k for k, f in features.items() if f.shape == () and np.issubdtype(f.np_dtype, np.integer)]
  texts = of(tfds.features.Text)
  caption = next((k for k in TEXTS if k in texts), None)
  others = [k for k in texts if k != caption]
  return images[0], sounds[0] if sounds else None, caption, others, [*scalars, *numbers]


def _sounds(name, found):
  lengths = sorted({len(sound) for sound in found})
  if len(lengths) > 1:
    raise ValueError(f"expected the sounds of {name!r} to have one length, got {lengths[0]} to {lengths[-1]} samples")
  try:
    return np.stack([to_16_bits(sound) for sound in found])
  except ValueError as error:
    raise ValueError(f"the sounds of {name!r} cannot be used: {error}") from None


def _of_32_bits(name, key, values):
  if values.dtype.itemsize > 4 and np.abs(values).max(initial=0) > np.iinfo(np.int32).max:
    raise ValueError(f"expected the factor {key!r} of {name!r} to be of 32 bits, got {np.abs(values).max()}")
  return values.astype(np.int32)


def _columns(key, values):
  return [(key, values)] if values.ndim == 1 else [(f"{key}_{i}", values[:, i]) for i in range(values.shape[1])]
