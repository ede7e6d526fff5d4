"""Temporal order: are three frames of a clip in order (arXiv:1603.08561), and which one is the middle (1708.01246)?"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from metajax.types import Array, Examples, Key, PretextFn

WINDOW = 5  # frames a to e


def shuffle_and_learn(*, stride: int = 1) -> PretextFn:
  """Three frames of a clip, labeled with whether they are in temporal order (1) or not (0).

  Frames a to e come from a window with much motion. The outer two are a and c, or c and e; the middle one is b or d.
  So a, b, c and c, d, e are in order, and a, d, c and c, b, e are not; all four, and their reversals, are equally
  likely. Neither the outer frames nor the middle frame alone tell the label, even if a frame tells the time; only all
  three do. (In the paper's triples, b, c, d against b, a, d and b, e, d, the middle frame depends on the label.)

  Args:
    stride: distance between consecutive frames of the five.

  Returns:
    `pretext(key, clips)`: `[n, frames, h, w, c]` to `Examples` of `[n, 3, h, w, c]` and labels one-hot `[n, 2]`. It
    raises ValueError if clips have fewer frames than the window, `4 stride + 1`.

  Raises:
    ValueError: if `stride` is below 1.
  """

  def triple(key):
    ordered, late = jax.random.bernoulli(key, 0.5, (2,)).astype(int)
    outer = 2 * late  # the first outer frame: a or c
    middle = jnp.where(ordered == late, 3, 1)  # d: in order between c and e, out of order between a and c
    return jnp.stack([outer, middle, outer + 2]), jax.nn.one_hot(ordered, 2)

  return _of_windows(triple, stride)


def order_prediction(*, stride: int = 1) -> PretextFn:
  """Frames b, c, d in random order, labeled with the frame that is in the middle.

  An order and its reversal are one class, so the three classes are numbered by the time of the middle frame. If a frame
  alone tells the time, as in a clip as short as the window, the middle frame alone gives the answer away: use longer
  clips.

  Arguments and exceptions are those of `shuffle_and_learn`.

  Returns:
    `pretext(key, clips)`: `[n, frames, h, w, c]` to `Examples` of `[n, 3, h, w, c]` and labels one-hot `[n, 3]`.
  """

  def triple(key):
    orders = jnp.array([[2, 1, 3], [1, 2, 3], [1, 3, 2]])
    label = jax.random.randint(key, (), 0, len(orders))
    return orders[label], jax.nn.one_hot(label, len(orders))

  return _of_windows(triple, stride)


def _of_windows(triple: Callable[[Key], tuple[Array, Array]], stride: int) -> PretextFn:
  """`pretext(key, clips)` from `triple(key) -> (three frames of a window, label)`; half of the triples are reversed."""
  if stride < 1:
    raise ValueError(f"expected a stride of at least 1 frame, got {stride}")
  length = (WINDOW - 1) * stride + 1

  def pretext(key, clips):
    if clips.ndim != 5 or clips.shape[1] < length:
      given = f"clips {list(clips.shape)}"
      raise ValueError(f"expected clips [n, frames, height, width, channels] of at least {length} frames, got {given}")

    def one(row, clip):
      where, which, way = jax.random.split(jax.random.fold_in(key, row), 3)
      frames, label = triple(which)
      frames = jnp.where(jax.random.bernoulli(way), frames[::-1], frames)
      return clip[_window(where, clip, length) + stride * frames], label

    return Examples(*jax.vmap(one)(jnp.arange(len(clips)), clips))

  return pretext


def _window(key: Key, clip: Array, length: int) -> Array:
  """A random start of a window, with probability proportional to the motion within the window."""
  motion = jnp.abs(clip[1:] - clip[:-1]).mean((1, 2, 3))
  within = lax.reduce_window(motion, 0.0, lax.add, (length - 1,), (1,), "valid")
  return jax.random.categorical(key, jnp.log(within + 1e-6))
