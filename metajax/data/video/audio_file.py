"""Sounds: decoded by PyAV, cut or padded to a length, and converted between 16-bit samples and floats."""

import contextlib
import os
from typing import Any

import numpy as np

from metajax.data.files.opening import check_regular
from metajax.paths import AnyPath

FORMATS = "mov,matroska,avi,gif,mpeg,mpegvideo,mpegts,wav,w64,flac,mp3,ogg,aac,aiff"  # FFmpeg's names
OPTIONS = {"format_whitelist": FORMATS, "protocol_whitelist": "file"}
SOUNDS = (".wav", ".flac", ".mp3", ".ogg", ".opus", ".m4a", ".aac", ".aiff")
_SAY = "pip install 'metajax[video]'"


class BrokenRecording(Exception):
  """A sound or video file cannot be read; the message gives the reason in a few words."""


def av() -> Any:
  """The module of PyAV, which decodes by FFmpeg.

  Raises:
    ModuleNotFoundError: if it is not installed; the message gives the command that installs it.
  """
  try:
    import av
  except ModuleNotFoundError:
    raise ModuleNotFoundError(f"clips and sounds are decoded by PyAV, which is not installed: {_SAY}") from None
  av.logging.set_level(av.logging.PANIC)  # broken files are reported once, by the exception
  return av


def read_sound(path: AnyPath, sample_rate: int) -> np.ndarray:
  """The samples of a file's first sound track, mixed to mono at `sample_rate` samples per second: int16 `[samples]`.

  Raises:
    BrokenRecording: if the file has no sound, or cannot be read to its end.
  """
  with opened(path) as container:
    if not container.streams.audio:
      raise BrokenRecording("it has no sound")
    return decode_sound(container, sample_rate)


@contextlib.contextmanager
def opened(path: AnyPath):
  """PyAV's container of a file of one of FORMATS; other formats, e.g. playlists, may refer to other files or addresses.

  Raises:
    BrokenRecording: if the file has another format, or the block fails to decode it.
  """
  library = av()
  try:
    check_regular(path)
    with library.open(os.fspath(path), options=OPTIONS) as container:
      yield container
  except (library.error.FFmpegError, ValueError, EOFError) as error:
    raise BrokenRecording(reason(error)) from None
  except OSError as error:
    raise BrokenRecording(error.strerror or str(error)) from None


def decode_sound(container: Any, sample_rate: int, begin: float | None = None) -> np.ndarray:
  """The samples of an open container's first sound track, as in `read_sound`, from time `begin` in seconds on.

  Earlier samples are cut, and a later start is padded with silence. By default the track's first sample is the start.
  """
  resampler = av().AudioResampler(format="s16", layout="mono", rate=sample_rate)
  parts, first = [], None
  for frame in container.decode(audio=0):
    first = frame.time if first is None else first
    frame.pts = None  # gaps in broken time stamps are not silence
    parts += [part.to_ndarray().reshape(-1) for part in resampler.resample(frame)]
  parts += [part.to_ndarray().reshape(-1) for part in resampler.resample(None)]
  samples = np.concatenate([*parts, np.zeros(0, np.int16)])
  late = 0 if begin is None or first is None else round((first - begin) * sample_rate)
  return np.concatenate([np.zeros(max(0, late), np.int16), samples[max(0, -late) :]])


def fitted(samples: np.ndarray, length: int) -> np.ndarray:
  """Cuts samples `[n]` at the end, or pads them with silence, to `[length]`."""
  return np.pad(samples[:length], (0, max(0, length - len(samples))))


def to_16_bits(samples: np.ndarray) -> np.ndarray:
  """Converts a sound to int16 `[samples]`, the mean of all channels.

  Args:
    samples: floats from -1 to 1 or 16-bit integers, `[samples]` or `[samples, channels]`.

  Raises:
    ValueError: if the shape is another, or a value is out of range.
  """
  samples = np.asarray(samples)
  if samples.ndim not in (1, 2):
    raise ValueError(f"expected sounds [samples] or [samples, channels], got {list(samples.shape)}")
  scale = 32767.0 if np.issubdtype(samples.dtype, np.floating) else 1.0
  values = scale * (samples.astype(np.float64) if samples.ndim == 1 else samples.mean(-1, dtype=np.float64))
  high = np.abs(values).max(initial=0)
  if not high <= 32768:
    raise ValueError(f"expected sounds from -1 to 1, or integers of 16 bits, got values up to {high / scale:g}")
  return np.rint(values).clip(-32768, 32767).astype(np.int16)


def to_floats(samples: np.ndarray) -> np.ndarray:
  """16-bit samples as float32 from -1 to 1: `x / 32768`."""
  return samples.astype(np.float32) / np.float32(32768)


def reason(error: Exception) -> str:
  """The message of a PyAV error, without its number and the file's name."""
  return str(error).split("] ", 1)[-1].split(": '", 1)[0].split("; last error", 1)[0] or type(error).__name__
