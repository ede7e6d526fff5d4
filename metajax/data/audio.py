"""Sounds: files decoded by PyAV, lengths made even, 16-bit samples as floats."""

import os

import numpy as np

SOUNDS = (".wav", ".flac", ".mp3", ".ogg", ".opus", ".m4a", ".aac", ".aiff")
_SAY = "pip install 'metajax[video]'"


class BrokenRecording(Exception):
  """Why a file of sound or video cannot be read, in a few words."""


def av():
  """PyAV, which decodes what FFmpeg does.

  Raises:
    ModuleNotFoundError: it is not installed, with what installs it.
  """
  try:
    import av
  except ModuleNotFoundError:
    raise ModuleNotFoundError(f"clips and sounds are decoded by PyAV, which is not installed: {_SAY}") from None
  av.logging.set_level(av.logging.PANIC)  # what is broken is said once, by the error
  return av


def read_sound(path, rate: int) -> np.ndarray:
  """The samples of a file's first sound track, all channels mixed, at `rate` samples a second: int16 `[samples]`.

  Raises:
    BrokenRecording: it has none, or cannot be read to its end.
  """
  library = av()
  try:
    with library.open(os.fspath(path)) as container:
      if not container.streams.audio:
        raise BrokenRecording("it has no sound")
      return decode_sound(container, rate)
  except (library.error.FFmpegError, ValueError, EOFError) as error:
    raise BrokenRecording(reason(error)) from None


def decode_sound(container, rate: int) -> np.ndarray:
  """The samples of an open container's first sound track, as `read_sound` has them, from its time 0 on."""
  resampler = av().AudioResampler(format="s16", layout="mono", rate=rate)
  parts, begin = [], None
  for frame in container.decode(audio=0):
    begin = frame.time if begin is None else begin
    frame.pts = None  # gaps in a broken clock are no silence
    parts += [part.to_ndarray().reshape(-1) for part in resampler.resample(frame)]
  parts += [part.to_ndarray().reshape(-1) for part in resampler.resample(None)]
  late = round(max(begin or 0.0, 0.0) * rate)
  return np.concatenate([np.zeros(late, np.int16), *parts, np.zeros(0, np.int16)])


def fitted(samples: np.ndarray, length: int) -> np.ndarray:
  """Samples `[n]` as `[length]`: what is too long is cut at its end, after what is too short there is silence."""
  return np.pad(samples[:length], (0, max(0, length - len(samples))))


def to_floats(samples: np.ndarray) -> np.ndarray:
  """16-bit samples as float32 from -1 to 1: `x / 32768`."""
  return samples.astype(np.float32) / np.float32(32768)


def reason(error: Exception) -> str:
  """What an error of PyAV says, without its number and the file's name."""
  return str(error).split("] ", 1)[-1].split(": '", 1)[0].split("; last error", 1)[0] or type(error).__name__
