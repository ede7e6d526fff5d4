"""Combinators of inner loops: `identity`, `only` (a subset of the parameters) and `chain` (one after the other)."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from metajax.adapt import keys
from metajax.types import Adapt, Data, LossFn, Params, Path


def identity(loss: LossFn, params: Params, data: Data) -> tuple[Params, Path]:
  """Takes no step: the Adapt at the start of an adaptation curve.

  Returns:
    The params unchanged, and their loss as a path `[1]`.

  Example:
    >>> import jax.numpy as jnp
    >>> from metajax.adapt import identity
    >>> params, losses = identity(lambda params, data: jnp.sum((params - data) ** 2), jnp.zeros(2), jnp.ones(2))
    >>> print(losses)
    [2.]
  """
  return params, loss(params, data)[None]


def only(names: str | Sequence[str], adapt: Adapt) -> Adapt:
  """Restricts an Adapt to some of the parameters; the others stay fixed, but are still differentiated.

  Args:
    names: Top-level keys of the parameters, such as "head", or paths within them, such as "encoder/norm_0".
    adapt: Inner loop of the named parts. It is given the part itself if `names` is a string, else a tuple of the parts.

  Returns:
    An Adapt of the full parameters, with the path of `adapt`.

  Raises:
    ValueError: If no part is named or one lies within another; when called, if the parameters have no such part.

  Example:
    >>> import jax.numpy as jnp, optax
    >>> from metajax.adapt import gradient_steps, only
    >>> adapt = only("head", gradient_steps(optax.sgd(0.5), steps=1))
    >>> params = {"encoder": jnp.ones(2), "head": jnp.ones(2)}
    >>> adapted, _ = adapt(lambda params, data: jnp.sum(params["encoder"] * params["head"]), params, ())
    >>> print(adapted["encoder"], adapted["head"])
    [1. 1.] [0.5 0.5]
  """
  paths = [tuple(name.split("/")) for name in ([names] if isinstance(names, str) else names)]
  for i, path in enumerate(paths):
    for other in paths[:i]:
      if path[: len(other)] == other or other[: len(path)] == path:
        raise ValueError(f"expected disjoint parts, got {'/'.join(other)} and {'/'.join(path)}, one within the other")
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
  """Runs one Adapt after another, e.g. first the head alone, then all parameters.

  Typed keys in the data are split, so that the two draw different noise.

  Args:
    first: Inner loop that starts from the given params.
    second: Inner loop that starts from the params that `first` adapted.

  Returns:
    An Adapt whose path concatenates both paths, or is the pair of them if they differ in structure (trajectories of
    different parts).

  Example:
    >>> import jax.numpy as jnp, optax
    >>> from metajax.adapt import chain, gradient_steps
    >>> adapt = chain(gradient_steps(optax.sgd(0.1), steps=2), gradient_steps(optax.adam(0.1, eps_root=0.01), steps=3))
    >>> params, losses = adapt(lambda params, data: jnp.sum((params - data) ** 2), jnp.zeros(2), jnp.ones(2))
    >>> losses.shape
    (5,)
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
