"""Recordings loaded by name: the built-in moving glyphs, TFDS sets of clips or of images with sounds, a folder."""

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
  """Loads a part of a set of clips, or of images with sounds.

  - "moving_glyphs", drawn on the spot: see `metajax.data.builtin.moving_glyphs`.
  - a TFDS set, such as "sprites", "talking_clips" or "spoken_stamps": with one Video, or else one 8-bit Image; with at
    most one sound, an Audio feature or an int16 tensor of one axis, all of one length, the mean of its channels. A text
    that is named caption, title, description or the like is its caption; other texts, Scalars, ClassLabels and integer
    tensors are its factors (of a tensor "factors" of k numbers, "factors_0" to "factors_k-1"). `split` is one of its
    own.
  - one's own: a folder of clips (.mp4, .webm, .mov, .avi, .mkv, .gif, ...), however deep, or of images that have a
    sound of the same name beside them (`cat.png`, `cat.wav`). A clip is brought to `frame_rate`, its sound to one
    channel at `sample_rate`, and cut into parts of `frames` frames; what is left over at its end is in no part. A sound
    that ends before its frames is followed by silence; one without a sound track is broken where others have one. The
    sound of an image is made `seconds` long in the same way. Files are dealt out by `seed`: eight tenths to "train", a
    tenth each to "validation" and "test"; "all" is everything. Factors are the "file" of each, by its path, and, where
    there are some, the "folder" within the one given.

  Args:
    name: the data set; a path if it begins with "/", "./", "../" or "~", or is the name of a folder and of no set.
    split: which part.
    size: the side of images and frames in pixels, squashed to it whatever their shape.
    frames, frame_rate: of the parts of one's own clips; `frames` of moving glyphs too.
    sample_rate: of sounds, in hertz: of one's own, what they are brought to, a multiple of `frame_rate`; of a TFDS
      tensor, which does not say, what it has.
    seconds: of the sounds of one's own images.
    data_dir, download, seed: as for `metajax.data.load`; the seed is that of moving glyphs too.
    skip_unreadable: leave out files of one's own and records of a TFDS set that cannot be read, and name them in
      `unreadable`.
    sound: whether sounds are wanted; without, they are neither read nor asked for.

  Raises:
    FileNotFoundError, ConnectionError, NotADirectoryError, PermissionError: as `metajax.data.load`.
    ModuleNotFoundError: one's own clips or sounds without PyAV.
    ValueError: an argument is out of range, the set is not of such a kind, its recordings take more than 8 GiB, or
      files are broken (one that has fewer frames than `frames` is) and not to be skipped.
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
    said = f"{reason(error)}; pass skip_unreadable=True (--skip-unreadable) to leave out what cannot"
    raise ValueError(f"the records of {name!r} cannot be read: {said}") from None
  unreadable = _missing(builder.info.splits[split], found) if skip_unreadable else ()
  if not found:
    raise ValueError(f"expected a record of {name!r} that can be read, got {number} that cannot")
  sounds = _sounds(name, [record[sound] for record in found]) if sound else None
  rate = getattr(builder.info.features[sound], "sample_rate", None) or sample_rate if sound else 0
  if sounds is not None and clips and sounds.shape[1] % shape[0]:
    raise ValueError(f"expected as many samples a frame in {name!r}, got {sounds.shape[1]} for {shape[0]} frames")
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
  """The records of a split that are not among those found, by their files and their numbers in them."""
  there = {record["tfds_id"].decode() for record in found}
  files = zip(sorted(split.filenames), split.shard_lengths, strict=True)
  return tuple(one for file, number in files for i in range(number) if (one := f"{file}__{i}") not in there)


def _features(info):
  """The names of a set's images or clips, sound, caption, other texts and factors; None for what it has not."""
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
    raise ValueError(f"the sounds of {name!r} cannot be taken: {error}") from None


def _of_32_bits(name, key, values):
  if values.dtype.itemsize > 4 and np.abs(values).max(initial=0) > np.iinfo(np.int32).max:
    raise ValueError(f"expected the factor {key!r} of {name!r} to be of 32 bits, got {np.abs(values).max()}")
  return values.astype(np.int32)


def _columns(key, values):
  return [(key, values)] if values.ndim == 1 else [(f"{key}_{i}", values[:, i]) for i in range(values.shape[1])]
