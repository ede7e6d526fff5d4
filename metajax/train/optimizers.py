"""Optimizers as large-batch pretraining uses them: optax's, with masks, a schedule and limits."""

import math
from typing import Literal

import jax
import jax.numpy as jnp
import optax

from metajax import checks
from metajax.tree import wide
from metajax.types import Params


def lars(
  learning_rate: optax.ScalarOrSchedule, *, weight_decay: float = 1e-6, momentum: float = 0.9, trust: float = 0.001
) -> optax.GradientTransformation:
  """LARS (arXiv:1708.03888) as SimCLR has it: neither weight decay nor trust ratio on biases and norms.

  Parameters of 16 bits are updated by norms and momentum of 32.

  Args:
    learning_rate: such as `warmup_cosine(scale_learning_rate(0.3, 4096), ...)`, at least 0.
    weight_decay: at least 0; 1e-6 in SimCLR.
    momentum: from 0 to 1; 0.9 in SimCLR.
    trust: the trust coefficient, above 0.

  Raises:
    ValueError: if a number is out of range.
  """
  _check(learning_rate, weight_decay, momentum=momentum)
  checks.positive("trust", trust)
  return _in_32_bits(
    optax.lars(
      learning_rate,
      weight_decay=weight_decay,
      weight_decay_mask=is_weight,
      trust_coefficient=trust,
      trust_ratio_mask=is_weight,
      momentum=momentum,
    )
  )


def adamw(
  learning_rate: optax.ScalarOrSchedule, *, weight_decay: float = 0.05, b1: float = 0.9, b2: float = 0.999
) -> optax.GradientTransformation:
  """AdamW without weight decay on biases and norms.

  Parameters of 16 bits are updated by moments of 32.

  Args:
    learning_rate: such as `warmup_cosine(...)`, at least 0.
    weight_decay: times the learning rate; at least 0.
    b1, b2: of Adam, from 0 to 1.

  Raises:
    ValueError: if a number is out of range.
  """
  _check(learning_rate, weight_decay, b1=b1, b2=b2)
  return _in_32_bits(optax.adamw(learning_rate, b1=b1, b2=b2, weight_decay=weight_decay, mask=is_weight))


def is_weight(params: Params) -> Params:
  """Whether each parameter is a weight, by its shape: biases, norms and temperatures have one axis or none."""
  return jax.tree.map(lambda x: jnp.ndim(x) > 1, params)


def scale_learning_rate(
  learning_rate: float, batch_size: int, rule: Literal["linear", "square_root"] = "linear"
) -> float:
  """The learning rate for a batch size: `learning_rate batch_size / 256` (arXiv:1706.02677), or
  `learning_rate sqrt(batch_size / 256)`.

  SimCLR takes 0.3 with the first rule, or 0.075 times the square root of the batch size, which is 1.2 with the second.

  Raises:
    ValueError: if `rule` is neither, the learning rate is below 0, or `batch_size` is no whole number of at least 1.
  """
  checks.in_range("learning_rate", learning_rate, 0, math.inf)
  checks.count("batch_size", batch_size)
  checks.choice("rule", rule, ("linear", "square_root"))
  return learning_rate * (batch_size / 256) ** (1 if rule == "linear" else 0.5)


def warmup_cosine(learning_rate: float, steps: int, warmup_steps: int) -> optax.Schedule:
  """A schedule that rises along a line from 0 to `learning_rate` in `warmup_steps`, and falls along a cosine to 0 at
  `steps`.

  Raises:
    ValueError: if it is not 0 <= warmup_steps < steps, or the learning rate is below 0.
  """
  checks.in_range("learning_rate", learning_rate, 0, math.inf)
  if not 0 <= warmup_steps < steps:
    raise ValueError(f"expected at least 0 steps of warm-up and fewer than the {steps} of all, got {warmup_steps}")
  return optax.warmup_cosine_decay_schedule(0.0 if warmup_steps else learning_rate, learning_rate, warmup_steps, steps)


def _check(learning_rate, weight_decay, **shares):
  if not callable(learning_rate):
    checks.in_range("learning_rate", learning_rate, 0, math.inf)
  checks.in_range("weight_decay", weight_decay, 0, math.inf)
  for name, share in shares.items():
    checks.in_range(name, share, 0, 1)


def _in_32_bits(optimizer: optax.GradientTransformation) -> optax.GradientTransformation:
  """The optimizer in 32 bits at least, whatever the parameters: in float16 256 squared is infinite, and 1e-8 is 0."""

  def widened(tree):
    return jax.tree.map(wide, tree)

  def update(updates, state, params=None, **more):
    found, state = optimizer.update(widened(updates), state, None if params is None else widened(params), **more)
    return jax.tree.map(lambda new, given: new.astype(jnp.result_type(given)), found, updates), state

  return optax.GradientTransformationExtraArgs(lambda params: optimizer.init(widened(params)), update)


def keep_params_below(limit: float, name: str) -> optax.GradientTransformation:
  """Shortens updates so that the parameters of a name are at most `limit` after them:

      update = min(update, limit - parameter)

  It is the last link of a chain, after the rate: `optax.chain(optax.adam(1e-3), keep_params_below(LARGEST_LOG_SCALE,
  "log_scale"))` for a learned temperature (CLIP, arXiv:2103.00020). Other parameters are left alone.

  Args:
    limit: the largest value.
    name: the last part of the parameters' path, such as the key of a dictionary.

  Raises:
    ValueError: if the limit is no number; at init, if no parameter has the name; at an update without the parameters.
  """

  checks.in_range("limit", limit, -math.inf, math.inf)

  def is_it(path) -> bool:
    return bool(path) and jax.tree_util.keystr(path[-1:], simple=True) == name

  def init(params):
    paths = [path for path, _ in jax.tree.leaves_with_path(params)]
    if not any(map(is_it, paths)):
      known = sorted({jax.tree_util.keystr(path, simple=True, separator="/") for path in paths})
      raise ValueError(f"expected a parameter of the name {name!r} to keep below {limit:g}, got {', '.join(known)}")
    return optax.EmptyState()

  def update(updates, state, params=None):
    if params is None:
      raise ValueError("keep_params_below needs the parameters: call update(updates, state, params)")

    def shorten(path, update, value):
      return jnp.minimum(update, limit - value) if is_it(path) else update

    return jax.tree.map_with_path(shorten, updates, params), state

  return optax.GradientTransformation(init, update)
