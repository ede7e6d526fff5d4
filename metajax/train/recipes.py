"""Optimizers as large-batch pretraining uses them: optax's, with masks and a schedule."""

import math
from typing import Literal

import jax
import jax.numpy as jnp
import optax

from metajax import checks
from metajax.types import Params


def lars(
  rate: optax.ScalarOrSchedule, *, decay: float = 1e-6, momentum: float = 0.9, trust: float = 0.001
) -> optax.GradientTransformation:
  """LARS (arXiv:1708.03888) as SimCLR has it: neither weight decay nor trust ratio on biases and norms.

  Parameters of 16 bits are updated by norms and momentum of 32.

  Args:
    rate: such as `warmup_cosine(scaled_rate(0.3, 4096), ...)`, at least 0.
    decay: of weights, at least 0; 1e-6 in SimCLR.
    momentum: from 0 to 1; 0.9 in SimCLR.
    trust: the trust coefficient, above 0.

  Raises:
    ValueError: if a number is out of range.
  """
  _check(rate, decay, momentum=momentum)
  checks.positive("trust", trust)
  return _in_32_bits(
    optax.lars(
      rate,
      weight_decay=decay,
      weight_decay_mask=is_weight,
      trust_coefficient=trust,
      trust_ratio_mask=is_weight,
      momentum=momentum,
    )
  )


def adamw(
  rate: optax.ScalarOrSchedule, *, decay: float = 0.05, b1: float = 0.9, b2: float = 0.999
) -> optax.GradientTransformation:
  """AdamW without weight decay on biases and norms.

  Parameters of 16 bits are updated by moments of 32.

  Args:
    rate: such as `warmup_cosine(...)`, at least 0.
    decay: of weights, times the rate; at least 0.
    b1, b2: of Adam, from 0 to 1.

  Raises:
    ValueError: if a number is out of range.
  """
  _check(rate, decay, b1=b1, b2=b2)
  return _in_32_bits(optax.adamw(rate, b1=b1, b2=b2, weight_decay=decay, mask=is_weight))


def is_weight(params: Params) -> Params:
  """Whether each parameter is a weight, by its shape: biases, norms and temperatures have one axis or none."""
  return jax.tree.map(lambda x: jnp.ndim(x) > 1, params)


def scaled_rate(rate: float, batch_size: int, rule: Literal["linear", "square_root"] = "linear") -> float:
  """The rate for a batch: `rate batch_size / 256` (arXiv:1706.02677), or `rate sqrt(batch_size / 256)`.

  SimCLR takes 0.3 with the first rule, or 0.075 times the square root of the batch size, which is 1.2 with the second.

  Raises:
    ValueError: if `rule` is neither, the rate is below 0, or `batch_size` is no whole number of at least 1.
  """
  checks.in_range("rate", rate, 0, math.inf)
  checks.count("batch_size", batch_size)
  checks.choice("rule", rule, ("linear", "square_root"))
  return rate * (batch_size / 256) ** (1 if rule == "linear" else 0.5)


def warmup_cosine(rate: float, steps: int, warmup: int) -> optax.Schedule:
  """A rate that rises along a line from 0 to `rate` in `warmup` steps, and falls along a cosine to 0 at `steps`.

  Raises:
    ValueError: if it is not 0 <= warmup < steps, or the rate is below 0.
  """
  checks.in_range("rate", rate, 0, math.inf)
  if not 0 <= warmup < steps:
    raise ValueError(f"expected at least 0 steps of warm-up and fewer than the {steps} of all, got {warmup}")
  return optax.warmup_cosine_decay_schedule(0.0 if warmup else rate, rate, warmup, steps)


def _check(rate, decay, **shares):
  if not callable(rate):
    checks.in_range("rate", rate, 0, math.inf)
  checks.in_range("decay", decay, 0, math.inf)
  for name, share in shares.items():
    checks.in_range(name, share, 0, 1)


def _in_32_bits(optimizer: optax.GradientTransformation) -> optax.GradientTransformation:
  """The optimizer in 32 bits at least, whatever the parameters: in float16 256 squared is infinite, and 1e-8 is 0."""
  wide = lambda tree: jax.tree.map(lambda x: jnp.asarray(x, jnp.promote_types(jnp.result_type(x), jnp.float32)), tree)

  def update(updates, state, params=None, **more):
    found, state = optimizer.update(wide(updates), state, None if params is None else wide(params), **more)
    return jax.tree.map(lambda new, given: new.astype(jnp.result_type(given)), found, updates), state

  return optax.GradientTransformationExtraArgs(lambda params: optimizer.init(wide(params)), update)
