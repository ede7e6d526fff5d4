"""Questions of pretext tasks as images: tiles, frames and pairs side by side, sounds as spectrograms."""

import numpy as np

from metajax.augment.audio import log_mel

BETWEEN = 2  # pixels
PAPER = 0.5  # gray also on images with ink at 1, which are shown inverted


def montage(parts: np.ndarray, columns: int | None = None) -> np.ndarray:
  """Places parts `[n, parts, h, w, c]` side by side, in rows of `columns`: `[n, H, W, c]`.

  Parts with values outside [0, 1] are rescaled to [0, 1].
  """
  n, count, height, width, channels = parts.shape
  columns = columns or count
  rows = -(-count // columns)
  shown = np.full((n, rows * (height + BETWEEN) - BETWEEN, columns * (width + BETWEEN) - BETWEEN, channels), PAPER)
  for i in range(count):
    top, left = i // columns * (height + BETWEEN), i % columns * (width + BETWEEN)
    shown[:, top : top + height, left : left + width] = in_range(parts[:, i])
  return shown


def in_range(images: np.ndarray) -> np.ndarray:
  """Images `[n, h, w, c]`, each rescaled from its minimum and maximum to [0, 1] if it has values outside [0, 1]."""
  low, high = (reduce(images, axis=(1, 2, 3), keepdims=True) for reduce in (np.min, np.max))
  beyond = (low < 0) | (high > 1)
  return np.where(beyond, (images - low) / np.maximum(high - low, 1e-6), images)


def with_spectrograms(inputs: dict, rate: int) -> np.ndarray:
  """Images `[n, h, w, c]`, or frames `[n, frames, h, w, c]` side by side, above spectrograms: `[n, H, W, c]`."""
  seen, heard = inputs["seen"], np.asarray(log_mel(inputs["heard"], rate, mels=32))
  above = montage(seen) if seen.ndim > 4 else seen
  height, width = above.shape[1] // 2, above.shape[2]
  rows = np.arange(height) * heard.shape[2] // height
  columns = np.arange(width) * heard.shape[1] // width
  below = heard[:, columns][:, :, rows[::-1]].swapaxes(1, 2)[..., None]  # low frequencies at the bottom
  low, high = below.min((1, 2, 3), keepdims=True), below.max((1, 2, 3), keepdims=True)
  below = np.broadcast_to((below - low) / np.maximum(high - low, 1e-6), (*below.shape[:3], above.shape[-1]))
  gap = np.full((len(above), BETWEEN, width, above.shape[-1]), PAPER)
  return np.concatenate([above, gap, below], 1)
