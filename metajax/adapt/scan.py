"""Scans over the steps of an inner loop, with a choice of the values kept for the backward pass."""

import math
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax import lax

from metajax.types import Data

Remat = Literal["gradients", "step", "sqrt"]

SAVED = "inner_gradient"  # the `checkpoint_name` of a step's gradient


def scan_of(mode: str, remat: Remat) -> Callable[..., tuple[Any, Any]]:
  """`scan(step, carry, data, length=steps)`, a `lax.scan` that keeps the values that `remat` names, under the
  differentiation `mode`."""
  return _sqrt_scan if remat == "sqrt" and mode != "first_order" else lax.scan


def checkpointed(step: Callable, mode: str, remat: Remat) -> Callable:
  """A step of `scan_of(mode, remat)`, checkpointed so that nothing else is kept."""
  if mode == "first_order" or remat == "sqrt":
    return step
  # `prevent_cse` guards against common-subexpression elimination across the checkpoint, which a scan already rules out.
  if remat == "step":
    return jax.checkpoint(step, prevent_cse=False)
  policy = jax.checkpoint_policies.save_only_these_names(SAVED)
  return jax.checkpoint(step, prevent_cse=False, policy=policy) if mode == "mixed" else step


def _sqrt_scan(step: Callable, carry: Any, data: Data, *, length: int) -> tuple[Any, Any]:
  """A scan over scans of about sqrt(steps) steps that keep only their first carry, then the remaining steps."""
  size = math.isqrt(length)
  chunks = length // size
  step = jax.checkpoint(step, prevent_cse=False)

  def chunk(carry, own):
    return lax.scan(step, carry, own, length=size)

  whole = jax.tree.map(lambda x: x[: chunks * size].reshape(chunks, size, *x.shape[1:]), data)
  carry, paths = lax.scan(jax.checkpoint(chunk, prevent_cse=False), carry, whole, length=chunks)
  path = jax.tree.map(lambda x: x.reshape(chunks * size, *x.shape[2:]), paths)
  if length == chunks * size:
    return carry, path
  left = jax.tree.map(lambda x: x[chunks * size : length], data)
  carry, rest = lax.scan(step, carry, left, length=length - chunks * size)
  return carry, jax.tree.map(lambda a, b: jnp.concatenate([a, b]), path, rest)
