"""Recordings loaded: the built-in moving glyphs, TFDS sets of clips or of pictures with sounds, one's own files."""

import os

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds
from PIL import Image

from metajax.data.audio import (
  SOUNDS,
  BrokenRecording,
  av,
  decode_sound,
  fitted,
  read_sound,
  reason,
  to_16_bits,
)
from metajax.data.captions import TEXTS
from metajax.data.images import is_prepared, prepared
from metajax.data.own import is_path
from metajax.data.pillow import BrokenPicture, is_picture_name, read_picture, resized
from metajax.data.recordings import Recordings

VIDEOS = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".gif")
BYTES_IN_MEMORY = 8 * 2**30
PARTS = (0.8, 0.1, 0.1)  # of one's own files: train, validation, test
NAMED = 5  # broken files in a message


def load_recordings(
  name,
  split="train",
  *,
  size=64,
  frames=16,
  frame_rate=8.0,
  sample_rate=8000,
  seconds=2.0,
  data_dir=None,
  download=False,
  seed=0,
  skip_broken=False,
  sound=True,
) -> Recordings:
  """Loads a part of a set of clips, or of pictures with sounds.

  - "moving_glyphs", drawn on the spot: see `metajax.data.moving_glyphs`.
  - a TFDS set, such as "sprites", "talking_clips" or "spoken_stamps": with one Video, or else one 8-bit Image; with at
    most one sound, an Audio feature or an int16 tensor of one axis, all of one length; Scalars, ClassLabels and integer
    tensors are its factors (of a tensor "factors" of k numbers, "factors_0" to "factors_k-1"), and its first text its
    captions. `split` is one of its own.
  - one's own: a folder of clips (.mp4, .webm, .mov, .avi, .mkv, .gif, ...), however deep, or of pictures that have a
    sound of the same name beside them (`cat.png`, `cat.wav`). A clip is brought to `frame_rate`, its sound to one
    channel at `sample_rate`, and cut into parts of `frames` frames; what is left over at its end is in no part. A sound
    that ends before its frames is followed by silence; one without a sound track is broken where others have one. The
    sound of a picture is made `seconds` long in the same way. Files are dealt out by `seed`: eight tenths to "train", a
    tenth each to "validation" and "test"; "all" is everything. Factors are the "file" of each, by its path, and, where
    there are some, the "folder" within the one given.

  Args:
    name: the data set; a path if it begins with "/", "./", "../" or "~", or is the name of a folder and of no set.
    split: which part.
    size: the side of pictures and frames in pixels, squashed to it whatever their shape.
    frames, frame_rate: of the parts of one's own clips; `frames` of moving glyphs too.
    sample_rate: of sounds, in hertz: of one's own, what they are brought to, a multiple of `frame_rate`; of a TFDS
      tensor, which does not say, what it has.
    seconds: of the sounds of one's own pictures.
    data_dir, download: as for `metajax.data.load`.
    seed: of the dealing, and of moving glyphs.
    skip_broken: leave out files of one's own that cannot be read, and name them in `broken`.
    sound: whether sounds are wanted; without, they are neither read nor asked for.

  Raises:
    FileNotFoundError, ConnectionError, NotADirectoryError, PermissionError: as `metajax.data.load`.
    ModuleNotFoundError: one's own clips or sounds without PyAV.
    ValueError: an argument is out of range, the set is not of such a kind, its recordings take more than 8 GiB, or
      files are broken (one that has fewer frames than `frames` is) and not to be skipped.
  """
  name = os.fspath(name)
  if size < 1 or frames < 1 or not frame_rate > 0 or sample_rate < 1 or not seconds > 0:
    given = f"{size}, {frames}, {frame_rate}, {sample_rate}, {seconds}"
    raise ValueError(f"expected size, frames, frame_rate, sample_rate and seconds above 0, got {given}")
  if name == "moving_glyphs":
    from metajax.data.moving_glyphs import moving_glyphs

    found = moving_glyphs(split, size=size, frames=frames, seed=seed)
  elif is_path(name) or (not download and os.path.isdir(name) and not is_prepared(name, data_dir)):
    how = {"size": size, "frames": frames, "frame_rate": frame_rate, "sample_rate": sample_rate, "seconds": seconds}
    return _own(os.path.expanduser(name), split, seed, skip_broken, how | {"sound": sound})
  else:
    found = _tfds(name, split, size, sample_rate, data_dir, download)
  return found if sound else found._replace(sounds=None, sample_rate=0)


def _tfds(name, split, size, sample_rate, data_dir, download) -> Recordings:
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
  _check_bytes(name, number, (shape[0] if clips else 1) * size * size * shape[-1])
  config = tfds.ReadConfig(interleave_cycle_length=1, try_autocache=False)
  kept = {key for key in (image, sound, caption, *texts, *factors) if key}

  def small(record):
    shown = tf.image.resize(record[image], (size, size), method="area")
    return {key: record[key] for key in kept} | {image: tf.cast(tf.round(shown), tf.uint8)}

  data = builder.as_dataset(split=split, read_config=config).map(small, num_parallel_calls=tf.data.AUTOTUNE)
  try:
    found = list(data.as_numpy_iterator())
  except tf.errors.OpError as error:
    raise ValueError(f"the records of {name!r} cannot be read: {error.message.splitlines()[0]}") from None
  sounds = _sounds(name, [record[sound] for record in found]) if sound else None
  rate = getattr(builder.info.features[sound], "sample_rate", None) or sample_rate if sound else 0
  if sound and clips and sounds.shape[1] % shape[0]:
    raise ValueError(f"expected as many samples a frame in {name!r}, got {sounds.shape[1]} for {shape[0]} frames")
  stacked = {key: _of_32_bits(name, key, np.stack([record[key] for record in found])) for key in factors}
  return Recordings(
    images=np.stack([record[image] for record in found]),
    sounds=sounds,
    frame_rate=shape[0] * rate / sounds.shape[1] if clips and sound else 0.0,
    sample_rate=rate,
    names=tuple(f"{split} {i}" for i in range(len(found))),
    captions=tuple(record[caption].decode() if caption else "" for record in found),
    factors=dict(part for key, values in stacked.items() for part in _columns(key, values))
    | {key: np.array([record[key].decode() for record in found]) for key in texts},
  )


def _features(info):
  """The names of a set's pictures or clips, sound, caption, other texts and factors; None for what it has not."""
  features = dict(info.features.items()) if hasattr(info.features, "items") else {}
  of = lambda *kinds: [k for k, f in features.items() if isinstance(f, kinds)]
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


def _own(path, split, seed, skip_broken, how) -> Recordings:
  files = _files(path)
  if split != "all":
    parts = ("train", "validation", "test")
    if split not in parts:
      raise ValueError(f"unknown split {split!r} of {path}: expected one of {', '.join((*parts, 'all'))}")
    ends = np.rint(np.cumsum(PARTS) * len(files)).astype(int)
    dealt = np.split(np.random.RandomState(seed).permutation(len(files)), ends[:-1])
    files = [files[i] for i in np.sort(dealt[parts.index(split)])]
    if not files:
      raise ValueError(f"expected more files in {path!r}, to have one in each part, got too few for {split!r}")
  clips = files[0].lower().endswith(VIDEOS)
  beside = {} if clips else _sounds_beside(path)
  found, broken = [], []
  for file in files:
    try:
      whole = os.path.join(path, file)
      found.append((file, *(_clip(whole, how) if clips else _picture(whole, beside[os.path.splitext(whole)[0]], how))))
    except (BrokenRecording, BrokenPicture) as error:
      broken.append(f"{file}: {error}")
  silent = [file for file, _, sound in found if sound is None]
  if silent and len(silent) < len(found):
    broken += [f"{file}: it has no sound, which others have" for file in silent]
    found = [one for one in found if one[2] is not None]
  if broken and not (skip_broken and found):
    shown = "; ".join(broken[:NAMED]) + ("; ..." if len(broken) > NAMED else "")
    raise ValueError(f"{len(broken)} of {len(files)} files of {path!r} cannot be read: {shown}")
  return _joined(path, found, broken, clips, how)


def _joined(path, found, broken, clips, how) -> Recordings:
  each = how["frames"] if clips else 1
  numbers = [len(images) // each for _, images, _ in found]
  _check_bytes(path, sum(numbers), each * how["size"] ** 2 * 3)
  together = lambda parts: np.concatenate(parts) if clips else np.stack(parts)
  images = together([_parts(x, n, each) if clips else x for (_, x, _), n in zip(found, numbers, strict=True)])
  sounds = None
  if found[0][2] is not None:
    length = round(each * how["sample_rate"] / how["frame_rate"])
    sounds = together([_parts(x, n, length) if clips else x for (_, _, x), n in zip(found, numbers, strict=True)])
  names = tuple(
    f"{file} {i}" if clips else file
    for (file, *_), n in zip(found, numbers, strict=True)
    for i in range(n if clips else 1)
  )
  each_file = np.repeat([file for file, *_ in found], numbers if clips else 1)
  folders = np.array([os.path.dirname(file) for file in each_file])
  return Recordings(
    images=images,
    sounds=sounds,
    frame_rate=float(how["frame_rate"]) if clips else 0.0,
    sample_rate=how["sample_rate"] if sounds is not None else 0,
    names=names,
    captions=("",) * len(names),
    factors=({"folder": folders} if folders.astype(bool).any() else {}) | {"file": each_file},
    broken=tuple(broken),
  )


def _parts(values, number, length):
  return values[: number * length].reshape(number, length, *values.shape[1:])


def _files(path) -> list[str]:
  """The clips of a folder, or else the pictures that have sounds beside them, by their paths within it."""
  if not os.path.isdir(path):
    raise FileNotFoundError(f"expected a folder of clips, or of pictures and sounds, got {path!r}, which is none")
  found = sorted(
    os.path.relpath(os.path.join(folder, file), path)
    for folder, _, files in os.walk(path, followlinks=False)
    for file in files
    if not file.startswith(".")
  )
  clips = [file for file in found if file.lower().endswith(VIDEOS)]
  beside = _sounds_beside(path)
  stem = lambda file: os.path.splitext(os.path.join(path, file))[0]
  pictures = [file for file in found if is_picture_name(file) and stem(file) in beside]
  if not clips and not pictures:
    ends = ", ".join(VIDEOS)
    raise ValueError(
      f"{path!r} holds no clips ({ends}) and no pictures beside sounds of their names ({len(found)} files)"
    )
  return clips or pictures


def _sounds_beside(path) -> dict[str, str]:
  """The sounds of a folder, however deep: `{path without its end: path}`."""
  return {
    os.path.splitext(os.path.join(folder, file))[0]: os.path.join(folder, file)
    for folder, _, files in os.walk(path)
    for file in sorted(files)
    if file.lower().endswith(SOUNDS)
  }


def _clip(path, how):
  """A clip's frames uint8 `[frames, size, size, 3]` at the rate asked for, and its sound int16 `[samples]`, or None."""
  library, rate = av(), how["frame_rate"]
  try:
    with library.open(path) as container:
      if not container.streams.video:
        raise BrokenRecording("it has no pictures")
      hears = how["sound"] and bool(container.streams.audio)
      frames, begin = _at_rate(container, rate, how["size"])
    if len(frames) < how["frames"]:
      raise BrokenRecording(
        f"it has {len(frames)} frames at {rate:g} a second, fewer than the {how['frames']} of a part"
      )
    if not hears:
      return frames, None
    with library.open(path) as container:
      sound = decode_sound(container, how["sample_rate"], begin)
  except (library.error.FFmpegError, EOFError) as error:
    raise BrokenRecording(reason(error)) from None
  if how["sample_rate"] % rate:
    raise ValueError(f"expected a sample_rate that is a multiple of the frame_rate {rate:g}, got {how['sample_rate']}")
  return frames, fitted(sound, round(len(frames) * how["sample_rate"] / rate))


def _at_rate(container, rate, size):
  """At each time `k / rate` from the first frame to the end of the last the frame that is shown; and its beginning."""
  stream = container.streams.video[0]
  usual = float(1 / (stream.average_rate or rate))
  found, last, begin, end = [], None, None, 0.0
  for number, frame in enumerate(container.decode(video=0)):
    time = frame.time if frame.time is not None else number * usual
    begin = time if begin is None else begin
    while last is not None and len(found) / rate < time - begin - 1e-6:
      found.append(last)
    last = np.asarray(resized(Image.fromarray(frame.to_ndarray(format="rgb24")), size))
    lasts = float(frame.duration * frame.time_base) if frame.duration and frame.time_base else usual
    end = max(end, time - begin + lasts)
  while last is not None and len(found) / rate < end - 1e-6:
    found.append(last)
  return np.stack(found) if found else np.zeros((0, size, size, 3), np.uint8), begin or 0.0


def _picture(path, sound, how):
  picture = read_picture(path, size=how["size"], channels=3)
  if not how["sound"]:
    return picture, None
  return picture, fitted(read_sound(sound, how["sample_rate"]), round(how["seconds"] * how["sample_rate"]))


def _check_bytes(name, number, each):
  if number * each > BYTES_IN_MEMORY:
    given = f"{number:,} of {each:,} bytes"
    raise ValueError(
      f"the recordings of {name!r} do not fit in {BYTES_IN_MEMORY:,} bytes: got {given}; take a smaller size"
    )
