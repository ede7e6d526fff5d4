"""Audio-visual correspondence (Look, listen and learn, arXiv:1705.08168) and synchronization (arXiv:1804.03641)."""

from collections.abc import Callable, Sequence
from typing import Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from metajax.augment.audio import even_loudness
from metajax.types import Array, Examples, Pair, PretextFn

Negatives = Literal["others", "moments"]
CLIP = 5  # number of axes of a batch of clips


def audio_visual(
  window: int | None = None,
  *,
  negatives: Sequence[Negatives] = ("others", "moments"),
  listen: Callable[[Array], Array] = even_loudness,
) -> PretextFn:
  """Pairs images, or moments of clips, with sounds, labeled 1 if the two belong together.

  Half of the pairs match. The negatives are of these kinds, equally likely:

      others    the sound of another example of the batch, drawn uniformly; for clips, at the same moment
      moments   for clips, the sound of another moment of the same clip, at least `window` frames away

  The draws of images and of sounds have the same marginal distribution for both labels: two moments are drawn from all
  pairs that are far enough apart, and the sound is taken at the first, as the frames are, or at the second. Only image
  and sound together therefore tell the label: neither the place within the clip or batch does, nor the loudness, which
  is normalized.

  Args:
    window: frames per moment, required for clips. Images are paired with full sounds.
    negatives: kinds of negatives for clips; images use only "others".
    listen: function applied to the chosen sounds `[n, samples]`.

  Returns:
    `pretext(key, batch)`: from a `Pair` of images `[n, h, w, c]` or clips `[n, frames, h, w, c]`, and sounds
    `[n, samples]` of the same duration, to `Examples` of `{"seen": [n, h, w, c] or [n, window, h, w, c],
    "heard": [n, ...]}` and labels one-hot `[n, 2]`. It raises ValueError if the number of frames does not divide the
    samples, a clip is too short for two separate moments ("moments"), the batch has a single example ("others"), or
    clips come without a `window`.

  Raises:
    ValueError: if `negatives` is empty or holds an unknown kind, or `window` is below 1.
  """
  kinds = tuple(negatives)
  _check_arguments(window, kinds)

  def pretext(key, batch: Pair):
    of_clips, length = _check(batch, window, kinds)
    images, sounds = map(jnp.asarray, batch)
    count, frames = len(images), images.shape[1] if of_clips else 1
    starts, step = _moments(frames, length), sounds.shape[1] // frames
    here = kinds if of_clips else ("others",)

    def one(row):
      which, kind, other, when = jax.random.split(jax.random.fold_in(key, row), 4)
      label = jax.random.bernoulli(which).astype(jnp.int32)
      moments = here[0] == "moments" if len(here) == 1 else jax.random.bernoulli(kind)
      moment, another = jnp.asarray(starts)[jax.random.randint(when, (), 0, len(starts))]
      elsewhere = (row + jax.random.randint(other, (), 1, max(count, 2))) % count
      of = jnp.where((label == 0) & ~jnp.asarray(moments), elsewhere, row)
      at = jnp.where((label == 0) & moments, another, moment)
      heard = lax.dynamic_slice(sounds, (of, at * step), (1, length * step))[0]
      seen = lax.dynamic_slice_in_dim(images[row], moment, length) if of_clips else images[row]
      return seen, heard, jax.nn.one_hot(label, 2)

    seen, heard, labels = jax.vmap(one)(jnp.arange(count))
    return Examples({"seen": seen, "heard": listen(heard)}, labels)

  return pretext


def _check_arguments(window, kinds):
  if not kinds or set(kinds) - set(get_args(Negatives)):
    raise ValueError(f"expected negatives to be some of {', '.join(get_args(Negatives))}, got {list(kinds)}")
  if window is not None and window < 1:
    raise ValueError(f"expected a window of at least 1 frame, got {window}")


def _moments(frames: int, window: int) -> np.ndarray:
  """Starts of all pairs of moments that do not overlap, `[pairs, 2]`, in both orders; if none, each with itself."""
  first, second = np.meshgrid(*[np.arange(frames - window + 1, dtype=np.int32)] * 2, indexing="ij")
  apart = np.abs(first - second) >= window
  if not apart.any():
    apart = first == second
  return np.stack([first[apart], second[apart]], -1)


def _check(batch: Pair, window: int | None, kinds) -> tuple[bool, int]:
  """Whether the batch holds clips rather than images, and the frames per moment (1 for images)."""
  if not isinstance(batch, Pair):
    raise ValueError(f"expected a Pair of images or clips and their sounds, got a {type(batch).__name__}")
  seen, heard = (np.shape(part) for part in batch)
  of_clips, given = len(seen) == CLIP, f"{list(seen)} and {list(heard)}"
  if len(seen) not in (CLIP - 1, CLIP) or len(heard) != 2 or seen[0] != heard[0]:
    kinds_of = "images [n, height, width, channels] or clips [n, frames, height, width, channels]"
    raise ValueError(f"expected {kinds_of}, and sounds [n, samples], got {given}")
  if ("others" in kinds or not of_clips) and seen[0] < 2:
    raise ValueError(f"expected at least 2 examples, each other's negatives, got {seen[0]}")
  if not of_clips:
    return False, 1
  if window is None:
    raise ValueError(f"expected a window for clips, the frames per moment, got none for {given}")
  if heard[1] % seen[1]:
    raise ValueError(f"expected equally many samples per frame, got {heard[1]} for {seen[1]} frames")
  least = 2 * window if "moments" in kinds else window
  if seen[1] < least:
    raise ValueError(f"expected clips of at least {least} frames for moments of {window}, got {seen[1]}")
  return True, window
