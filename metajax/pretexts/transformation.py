"""What was done to a picture? Of two, the second is a view of the first, or another picture."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax import lax

from metajax.types import Examples


def transformation(views: Sequence[Callable], *, before: Callable | None = None) -> Callable:
  """`pretext(key, pictures)`: pairs of pictures, labelled with what the second is of the first.

  Class `k` is `views[k]` of the first, such as `views.image.rotation(90.0)`, a crop or a change of colours; the last
  class is an unrelated picture: another one of the batch, drawn uniformly. All are as likely.

  What resamples leaves a trace that a network reads rather than the picture: quarter turns leave none, and `before`
  gives all pictures the same one.

  Args:
    views: `(key, picture) -> picture` of the same size, at least one.
    before: a view of both pictures of a pair, each with a key of its own, before all else.

  Returns:
    `pretext`: `[n, h, w, c]` to `Examples` of `[n, 2, h, w, c]` and labels one-hot `[n, len(views) + 1]`. It raises
    ValueError if there is one picture alone.

  Raises:
    ValueError: if there are no views.
  """
  if not views:
    raise ValueError("expected at least one view to tell from unrelated pictures, got none")
  classes = len(views) + 1

  def pretext(key, pictures):
    count, pictures = len(pictures), jnp.asarray(pictures)
    if count < 2:
      raise ValueError(f"expected at least 2 pictures, of which one is unrelated to the other, got {count}")

    def one(row, picture):
      which, other, own, *both = jax.random.split(jax.random.fold_in(key, row), 5)
      unrelated = pictures[(row + jax.random.randint(other, (), 1, count)) % count]
      first, unrelated, again = (
        x if before is None else before(k, x)
        for k, x in zip((*both, both[1]), (picture, unrelated, picture), strict=True)
      )
      label = jax.random.randint(which, (), 0, classes)
      second = lax.switch(label, [*(lambda view=view: view(own, again) for view in views), lambda: unrelated])
      return jnp.stack([first, second]), jax.nn.one_hot(label, classes)

    return Examples(*jax.vmap(one)(jnp.arange(count), pictures))

  return pretext
