"""Inner loops from inner loops: on a part of the parameters, one after the other."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from metajax.adapt import keys
from metajax.types import Adapt, Data, LossFn, Params, Path


def identity(loss: LossFn, params: Params, data: Data) -> tuple[Params, Path]:
  """The Adapt that takes no step: where an adaptation curve begins. Its path has the loss of the params as they are."""
  return params, loss(params, data)[None]


def only(names: str | Sequence[str], adapt: Adapt) -> Adapt:
  """An Adapt of some of the parameters; the others stay as they are, and are differentiated all the same.

  Args:
    names: top-level keys of the parameters, such as "head", or paths within them, such as "encoder/norm_0".
    adapt: what adapts them. Where `names` is one string it is given that part itself, otherwise a tuple of the parts.

  Raises:
    ValueError: when called, if there is no such part, or one lies within another.
  """
  paths = [tuple(name.split("/")) for name in ([names] if isinstance(names, str) else names)]
  for i, path in enumerate(paths):
    for other in paths[:i]:
      if path[: len(other)] == other or other[: len(path)] == path:
        raise ValueError(
          f"expected parts of which none lies within another, got {'/'.join(other)} and {'/'.join(path)}"
        )
  if not paths:
    raise ValueError("expected the name of a part to adapt, got none")

  def adapt_part(loss, params, data):
    parts = tuple(_get(params, path) for path in paths)

    def whole(parts):
      return _with(params, paths, parts)

    single = isinstance(names, str)
    found, trail = adapt(
      lambda fast, data: loss(whole((fast,) if single else fast), data), parts[0] if single else parts, data
    )
    return whole((found,) if single else found), trail

  return adapt_part


def chain(first: Adapt, second: Adapt) -> Adapt:
  """An Adapt that does what `first` does, and then `second`: the head alone, and then all.

  The path is that of both, one after the other; where they cannot be joined (trajectories of different parts) it is
  the pair of both. Typed keys in the data are split, so that the two draw other noise.
  """

  def both(loss, params, data):
    earlier, later = keys.split(data) if keys.has_keys(data) else (data, data)
    params, early = first(loss, params, earlier)
    params, late = second(loss, params, later)
    return params, _joined(early, late)

  return both


def _joined(early, late):
  if jax.tree.structure(early) != jax.tree.structure(late):
    return early, late
  return jax.tree.map(lambda a, b: jnp.concatenate([a, b]), early, late)


def _get(params, path):
  at = params
  for depth, name in enumerate(path):
    if not isinstance(at, dict) or name not in at:
      there = ", ".join(map(str, at)) if isinstance(at, dict) else "no parts"
      raise ValueError(f"expected a part {'/'.join(path[: depth + 1])!r} of the parameters, got {there}")
    at = at[name]
  return at


def _with(params, paths, parts):
  for path, part in zip(paths, parts, strict=True):
    params = _replace(params, path, part)
  return params


def _replace(params, path, part):
  if not path:
    return part
  return {**params, path[0]: _replace(params[path[0]], path[1:], part)}
