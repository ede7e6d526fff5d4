"""User-supplied recordings: folders of clips, or of images with sounds, decoded by PyAV and Pillow."""

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image

from metajax import checks
from metajax.data.files.image_file import UnreadableImage, is_image_name, read_image, resized
from metajax.data.video.audio_file import SOUNDS, BrokenRecording, decode_sound, fitted, opened, read_sound
from metajax.data.video.recordings import Recordings, check_bytes

VIDEOS = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".gif")
PARTS = (0.8, 0.1, 0.1)  # train, validation, test
NAMED = 5  # largest number of broken files named in a message


def own_recordings(path: str, split: str, seed: int, skip_unreadable: bool, settings: Mapping[str, Any]) -> Recordings:
  """The `Recordings` of one part of a folder; `settings` holds the other arguments of `metajax.data.load_recordings`.

  Raises:
    FileNotFoundError, ModuleNotFoundError, ValueError: as for `load_recordings`.
  """
  files = _files(path)
  if split != "all":
    parts = ("train", "validation", "test")
    if split not in parts:
      raise ValueError(f"unknown split {split!r} of {path}: expected one of {', '.join((*parts, 'all'))}")
    ends = np.rint(np.cumsum(PARTS) * len(files)).astype(int)
    dealt = np.split(np.random.RandomState(seed).permutation(len(files)), ends[:-1])
    files = [files[i] for i in np.sort(dealt[parts.index(split)])]
    if not files:
      raise ValueError(f"expected more files in {path!r}, at least one per part, got too few for {split!r}")
  clips = files[0][1] is None
  found, unreadable = [], []
  for file, beside in files:
    try:
      whole = os.path.join(path, file)
      found.append((file, *(_clip(whole, settings) if clips else _image(whole, beside, settings))))
    except (BrokenRecording, UnreadableImage) as error:
      unreadable.append(f"{file}: {error}")
  silent = [file for file, _, sound in found if sound is None]
  if silent and len(silent) < len(found):
    unreadable += [f"{file}: it has no sound, which others have" for file in silent]
    found = [one for one in found if one[2] is not None]
  if unreadable and not (skip_unreadable and found):
    shown = "; ".join(unreadable[:NAMED]) + ("; ..." if len(unreadable) > NAMED else "")
    raise ValueError(
      f"{len(unreadable)} of {len(files)} files of {path!r} cannot be read: {shown}; pass skip_unreadable=True "
      "(--skip-unreadable) to leave them out"
    )
  return _joined(path, found, unreadable, clips, settings)


def _joined(path, found, unreadable, clips, settings) -> Recordings:
  each, seconds = (
    (settings["frames"], settings["frames"] / settings["frame_rate"]) if clips else (1, settings["seconds"])
  )
  numbers = [len(images) // each for _, images, _ in found]
  check_bytes(path, sum(numbers), each * settings["size"] ** 2 * 3)

  def parts(i, length):
    return np.concatenate([_parts(one[i], n, length) for one, n in zip(found, numbers, strict=True)])

  images = parts(1, each)
  sounds = None if found[0][2] is None else parts(2, round(seconds * settings["sample_rate"]))
  each_file = np.repeat([file for file, *_ in found], numbers)
  names = [f"{file} {i}" if clips else file for (file, *_), n in zip(found, numbers, strict=True) for i in range(n)]
  folders = np.array([os.path.dirname(file) for file in each_file])
  return Recordings(
    images=images if clips else images[:, 0],
    sounds=sounds,
    frame_rate=float(settings["frame_rate"]) if clips else 0.0,
    sample_rate=settings["sample_rate"] if sounds is not None else 0,
    names=tuple(names),
    captions=("",) * len(names),
    factors=({"folder": folders} if folders.astype(bool).any() else {}) | {"file": each_file},
    unreadable=tuple(unreadable),
  )


def _parts(values, number, length):
  return values[: number * length].reshape(number, length, *values.shape[1:])


def _files(path) -> list[tuple[str, str | None]]:
  """The relative paths of a folder's clips, each with None; without clips, of its images, each with its sound."""
  if not os.path.isdir(path):
    raise FileNotFoundError(f"expected a folder of clips, or of images and sounds, got {path!r}")
  found = sorted(
    os.path.relpath(os.path.join(folder, file), path)
    for folder, _, files in os.walk(path, followlinks=False)
    for file in files
    if not file.startswith(".")
  )

  def stem(file):
    return os.path.splitext(file)[0]

  clips = [(file, None) for file in found if file.lower().endswith(VIDEOS)]
  beside = {stem(file): os.path.join(path, file) for file in found if file.lower().endswith(SOUNDS)}
  images = [(file, beside[stem(file)]) for file in found if is_image_name(file) and stem(file) in beside]
  if not clips and not images:
    ends = ", ".join(VIDEOS)
    there = checks.counted(len(found), "file")
    raise ValueError(f"{path!r} holds no clips ({ends}) and no images with sounds of the same name ({there})")
  return clips or images


def _clip(path, settings):
  """A clip's frames uint8 `[frames, size, size, 3]` at the wanted rate, and its sound int16 `[samples]` or None."""
  rate = settings["frame_rate"]
  with opened(path) as container:
    if not container.streams.video:
      raise BrokenRecording("it has no images")
    hears = settings["sound"] and bool(container.streams.audio)
    fits = not hears or settings["sample_rate"] % rate == 0
    frames, begin = _at_rate(container, rate, settings["size"]) if fits else ([], 0)
  if not fits:
    raise ValueError(
      f"expected a sample_rate that is a multiple of the frame_rate {rate:g}, got {settings['sample_rate']}"
    )
  if len(frames) < settings["frames"]:
    there = checks.counted(len(frames), "frame")
    raise BrokenRecording(f"it has {there} at {rate:g} per second, fewer than the {settings['frames']} of a part")
  if not hears:
    return frames, None
  with opened(path) as container:
    sound = decode_sound(container, settings["sample_rate"], begin)
  return frames, fitted(sound, round(len(frames) * settings["sample_rate"] / rate))


def _at_rate(container, rate, size):
  """The frames shown at times `k / rate` from the first frame to the end of the last, and the time of the first."""
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


def _image(path, sound, settings):
  image = read_image(path, size=settings["size"], channels=3)
  if not settings["sound"]:
    return image[None], None
  return image[None], fitted(
    read_sound(sound, settings["sample_rate"]), round(settings["seconds"] * settings["sample_rate"])
  )
