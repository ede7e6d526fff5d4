"""Log-mel spectrograms and loudness normalization."""

from typing import Literal, get_args

import jax.numpy as jnp
import numpy as np
from jax import lax

from metajax.types import Array

Triangles = Literal["mel", "hertz"]
FLOOR = 1e-6  # power added before the logarithm
SILENCE = 1e-10  # mean power up to which a sound counts as silence
BREAK, SCALE = 700.0, 2595.0  # constants of the mel scale: mel(f) = 2595 log10(1 + f / 700)


def log_mel(
  samples: Array,
  sample_rate: int,
  *,
  window: float = 0.025,
  hop: float = 0.010,
  mels: int = 40,
  low: float = 60.0,
  high: float | None = None,
  triangles: Triangles = "mel",
) -> Array:
  """The log-mel spectrogram of sounds: `[..., samples] -> [..., frames, mels]`.

  A frame of `window` seconds starts every `hop` seconds, from the first sample on and without padding, under a Hann
  window. Its power spectrum is summed in `mels` triangular bands, evenly spaced on the mel scale and overlapping by
  half:

      log(1e-6 + sum_f band_m(f) |fft(hann * x)(f)|^2),   mel(f) = 2595 log10(1 + f / 700)

  A band rises from 0 at the previous band's center to 1 at its center and falls to 0 at the next band's center,
  linearly in mels (as in Kaldi and TensorFlow) or in hertz (as in librosa and torchaudio). Silence is log(1e-6)
  everywhere.

  Args:
    samples: floats, usually from -1 to 1.
    sample_rate: samples per second.
    window, hop: durations in seconds.
    mels: number of bands.
    low, high: lower end of the first band and upper end of the last, in hertz; `high` is half the rate by default.
    triangles: the scale on which the sides of a band are straight, "mel" or "hertz".

  Returns:
    The spectrogram, `[..., frames, mels]`.

  Raises:
    ValueError: if there are fewer samples than a window, an argument is out of range, or a band is so narrow that it
      contains no frequency of the spectrum.
  """
  length, step = round(window * sample_rate), round(hop * sample_rate)
  if length < 2 or step < 1 or mels < 1:
    raise ValueError(f"expected at least 2 samples per window, 1 per hop and 1 band, got {length}, {step} and {mels}")
  if samples.shape[-1] < length:
    raise ValueError(f"expected at least the {length} samples of a window, got {list(samples.shape)}")
  size = 2 ** int(np.ceil(np.log2(length)))
  weights = mel_bands(size // 2 + 1, sample_rate, mels, low, high, triangles)
  frames = (samples.shape[-1] - length) // step + 1
  cut = samples[..., np.arange(frames)[:, None] * step + np.arange(length)]
  hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / length)
  spectrum = jnp.fft.rfft(cut * hann.astype(np.float32), size)
  power = jnp.square(spectrum.real) + jnp.square(spectrum.imag)
  return jnp.log(FLOOR + power @ weights)


def mel_bands(
  frequencies: int,
  sample_rate: int,
  mels: int,
  low: float = 60.0,
  high: float | None = None,
  triangles: Triangles = "mel",
) -> np.ndarray:
  """The weights of the bands of `log_mel`, for frequencies from 0 to half the rate.

  Args:
    frequencies: number of frequencies.
    sample_rate, mels, low, high, triangles: as for `log_mel`.

  Returns:
    Weights, float32 `[frequencies, mels]`.

  Raises:
    ValueError: as for `log_mel`.
  """
  high = sample_rate / 2 if high is None else high
  if not 0 <= low < high <= sample_rate / 2:
    raise ValueError(f"expected 0 <= low < high <= {sample_rate / 2:g} hertz, half the rate, got {low} and {high}")
  if triangles not in get_args(Triangles):
    raise ValueError(f"expected triangles over 'mel' or 'hertz', got {triangles!r}")

  def mel(hertz):
    return SCALE * np.log10(1 + np.asarray(hertz) / BREAK)

  places, edges = np.linspace(0, sample_rate / 2, frequencies), np.linspace(mel(low), mel(high), mels + 2)
  if triangles == "mel":
    places = mel(places)
  else:
    edges = BREAK * (10 ** (edges / SCALE) - 1)
  rise = (places[:, None] - edges[:-2]) / (edges[1:-1] - edges[:-2])
  fall = (edges[2:] - places[:, None]) / (edges[2:] - edges[1:-1])
  weights = np.maximum(0, np.minimum(rise, fall))
  weights[0] = 0  # a constant offset is inaudible
  if not weights.any(0).all():
    given = f"band {int(np.argmin(weights.any(0)))} of {mels} between {low:g} and {high:g} hertz has none"
    raise ValueError(f"expected a frequency of the spectrum within each band, but {given}: use fewer bands")
  return weights.astype(np.float32)


def even_loudness(samples: Array, loudness: float = 0.1) -> Array:
  """Scales sounds to a root mean square of `loudness`, so that loudness cannot give a pretext's answer away.

  The inaudible mean is subtracted first; silence stays silent.

  Args:
    samples: floats `[..., samples]`.
    loudness: root mean square of the result.

  Returns:
    Scaled sounds `[..., samples]`.
  """
  centered = samples - samples.mean(-1, keepdims=True)
  power = jnp.square(centered).mean(-1, keepdims=True)
  heard = power > SILENCE  # applied twice, since the gradient passes through both branches of `where`
  return jnp.where(heard, centered * (loudness * lax.rsqrt(jnp.where(heard, power, 1))), 0)
