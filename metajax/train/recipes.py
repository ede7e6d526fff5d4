"""Optimizers as large-batch pretraining uses them: optax's, with masks and a schedule."""

from typing import Literal

import jax
import jax.numpy as jnp
import optax

from metajax.types import Params


def lars(
  rate: optax.ScalarOrSchedule, *, decay: float = 1e-6, momentum: float = 0.9, trust: float = 0.001
) -> optax.GradientTransformation:
  """LARS (arXiv:1708.03888) as SimCLR has it: neither weight decay nor trust ratio on biases and norms.

  Args:
    rate: such as `warmup_cosine(scaled_rate(0.3, 4096), ...)`.
    decay: of weights; 1e-6 in SimCLR.
    momentum: 0.9 in SimCLR.
    trust: the trust coefficient.
  """
  return optax.lars(
    rate,
    weight_decay=decay,
    weight_decay_mask=is_weight,
    trust_coefficient=trust,
    trust_ratio_mask=is_weight,
    momentum=momentum,
  )


def adamw(
  rate: optax.ScalarOrSchedule, *, decay: float = 0.05, b1: float = 0.9, b2: float = 0.999
) -> optax.GradientTransformation:
  """AdamW without weight decay on biases and norms.

  Args:
    rate: such as `warmup_cosine(...)`.
    decay: of weights, times the rate.
    b1, b2: of Adam.
  """
  return optax.adamw(rate, b1=b1, b2=b2, weight_decay=decay, mask=is_weight)


def is_weight(params: Params) -> Params:
  """Whether each parameter is a weight, by its shape: biases, norms and temperatures have one axis or none."""
  return jax.tree.map(lambda x: jnp.ndim(x) > 1, params)


def scaled_rate(rate: float, batch_size: int, rule: Literal["linear", "square_root"] = "linear") -> float:
  """The rate for a batch: `rate batch_size / 256` (arXiv:1706.02677), or `rate sqrt(batch_size / 256)`.

  SimCLR takes 0.3 with the first rule, or 0.075 times the square root of the batch size, which is 1.2 with the second.

  Raises:
    ValueError: if `rule` is neither, or `batch_size` below 1.
  """
  if batch_size < 1:
    raise ValueError(f"expected a batch of at least 1, got {batch_size}")
  if rule not in ("linear", "square_root"):
    raise ValueError(f"expected rule to be 'linear' or 'square_root', got {rule!r}")
  return rate * (batch_size / 256) ** (1 if rule == "linear" else 0.5)


def warmup_cosine(rate: float, steps: int, warmup: int) -> optax.Schedule:
  """A rate that rises along a line from 0 to `rate` in `warmup` steps, and falls along a cosine to 0 at `steps`.

  Raises:
    ValueError: if it is not 0 <= warmup < steps.
  """
  if not 0 <= warmup < steps:
    raise ValueError(f"expected at least 0 steps of warm-up and fewer than the {steps} of all, got {warmup}")
  return optax.warmup_cosine_decay_schedule(0.0 if warmup else rate, rate, warmup, steps)
