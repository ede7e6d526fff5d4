"""Optimizers of large-batch pretraining: optax's, with masks, a schedule and limits."""

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
  """LARS (arXiv:1708.03888) as in SimCLR: no weight decay and no trust ratio on biases and norms.

  For 16-bit parameters, norms and momentum are kept in 32 bits.

  Args:
    learning_rate: Number of at least 0, or a schedule such as `warmup_cosine(scale_learning_rate(0.3, 4096), ...)`.
    weight_decay: Weight decay, at least 0; SimCLR uses 1e-6.
    momentum: Momentum, 0 to 1; SimCLR uses 0.9.
    trust: Trust coefficient, above 0.

  Returns:
    An optax optimizer.

  Raises:
    ValueError: if a number is out of range.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> from metajax.train import lars
    >>> optimizer, params = lars(0.3), {"weight": jnp.ones([4, 4]), "bias": jnp.ones(4)}
    >>> updates, _ = jax.jit(optimizer.update)(params, optimizer.init(params), params)  # gradient = params here
    >>> {name: round(float(update.max()), 5) for name, update in updates.items()}
    {'bias': -0.3, 'weight': -0.0003}
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

  For 16-bit parameters, the moments are kept in 32 bits.

  Args:
    learning_rate: Number of at least 0, or a schedule such as `warmup_cosine(...)`.
    weight_decay: Weight decay, at least 0; it is multiplied by the learning rate.
    b1, b2: Decay rates of Adam's moments, 0 to 1.

  Returns:
    An optax optimizer.

  Raises:
    ValueError: if a number is out of range.
  """
  _check(learning_rate, weight_decay, b1=b1, b2=b2)
  return _in_32_bits(optax.adamw(learning_rate, b1=b1, b2=b2, weight_decay=weight_decay, mask=is_weight))


def is_weight(params: Params) -> Params:
  """Returns a tree of bools: True for weights (at least two axes), False for biases, norms and temperatures."""
  return jax.tree.map(lambda x: jnp.ndim(x) > 1, params)


def scale_learning_rate(
  learning_rate: float, batch_size: int, rule: Literal["linear", "square_root"] = "linear"
) -> float:
  """Scales a learning rate to a batch size: `learning_rate batch_size / 256` (arXiv:1706.02677), or
  `learning_rate sqrt(batch_size / 256)`.

  SimCLR uses 0.3 with the linear rule, or 0.075 times the square root of the batch size: 1.2 with the square root rule.

  Args:
    learning_rate: Learning rate for a batch of 256, at least 0.
    batch_size: Number of examples per batch, at least 1.
    rule: "linear" or "square_root".

  Returns:
    The scaled learning rate.

  Raises:
    ValueError: if `rule` is unknown, the learning rate is below 0, or `batch_size` is not an integer of at least 1.
  """
  checks.in_range("learning_rate", learning_rate, 0, math.inf)
  checks.count("batch_size", batch_size)
  checks.choice("rule", rule, ("linear", "square_root"))
  return learning_rate * (batch_size / 256) ** (1 if rule == "linear" else 0.5)


def warmup_cosine(learning_rate: float, steps: int, warmup_steps: int) -> optax.Schedule:
  """Linear warmup from 0 to the peak learning rate, then cosine decay to 0.

  Args:
    learning_rate: Peak learning rate, at least 0.
    steps: Total number of steps, including warmup; the rate is 0 from there on.
    warmup_steps: Number of warmup steps, at least 0 and fewer than `steps`.

  Returns:
    An optax schedule.

  Raises:
    ValueError: if not 0 <= warmup_steps < steps, or the learning rate is below 0.

  Example:
    >>> from metajax.train import warmup_cosine
    >>> schedule = warmup_cosine(0.4, steps=100, warmup_steps=10)
    >>> [round(float(schedule(step)), 2) for step in (0, 5, 10, 55, 100)]
    [0.0, 0.2, 0.4, 0.2, 0.0]
  """
  checks.in_range("learning_rate", learning_rate, 0, math.inf)
  if not 0 <= warmup_steps < steps:
    raise ValueError(f"expected warmup_steps from 0 to {steps - 1}, got {warmup_steps}")
  return optax.warmup_cosine_decay_schedule(0.0 if warmup_steps else learning_rate, learning_rate, warmup_steps, steps)


def _check(learning_rate, weight_decay, **shares):
  if not callable(learning_rate):
    checks.in_range("learning_rate", learning_rate, 0, math.inf)
  checks.in_range("weight_decay", weight_decay, 0, math.inf)
  for name, share in shares.items():
    checks.in_range(name, share, 0, 1)


def _in_32_bits(optimizer: optax.GradientTransformation) -> optax.GradientTransformation:
  """Runs an optimizer in at least 32 bits: in float16, 256 squared is infinite and 1e-8 is 0."""

  def widened(tree):
    return jax.tree.map(wide, tree)

  def update(updates, state, params=None, **more):
    found, state = optimizer.update(widened(updates), state, None if params is None else widened(params), **more)
    return jax.tree.map(lambda new, given: new.astype(jnp.result_type(given)), found, updates), state

  return optax.GradientTransformationExtraArgs(lambda params: optimizer.init(widened(params)), update)


def keep_params_below(limit: float, name: str) -> optax.GradientTransformation:
  """Caps updates so that the parameters of the given name stay at most `limit`:

      update = min(update, limit - parameter)

  Put it last in a chain, after the learning rate. CLIP caps its learned temperature this way (arXiv:2103.00020). Other
  parameters are not affected.

  Args:
    limit: Largest value of the parameters.
    name: Last part of the parameters' path, such as a dictionary key.

  Returns:
    An optax transformation.

  Raises:
    ValueError: if `limit` is not a number; at init, if no parameter has the name; at an update without the parameters.

  Example:
    >>> import jax.numpy as jnp, optax
    >>> from metajax.train import keep_params_below
    >>> optimizer, params = optax.chain(optax.sgd(1.0), keep_params_below(4.6, "log_scale")), {"log_scale": 4.5}
    >>> updates, _ = optimizer.update({"log_scale": jnp.array(-1.0)}, optimizer.init(params), params)
    >>> round(float(updates["log_scale"]), 4)
    0.1
  """

  checks.in_range("limit", limit, -math.inf, math.inf)

  def is_it(path) -> bool:
    return bool(path) and jax.tree_util.keystr(path[-1:], simple=True) == name

  def init(params):
    paths = [path for path, _ in jax.tree.leaves_with_path(params)]
    if not any(map(is_it, paths)):
      known = sorted({jax.tree_util.keystr(path, simple=True, separator="/") for path in paths})
      raise ValueError(f"expected a parameter named {name!r} to keep below {limit:g}, got {', '.join(known)}")
    return optax.EmptyState()

  def update(updates, state, params=None):
    if params is None:
      raise ValueError("keep_params_below needs the parameters: call update(updates, state, params)")

    def shorten(path, update, value):
      return jnp.minimum(update, limit - value) if is_it(path) else update

    return jax.tree.map_with_path(shorten, updates, params), state

  return optax.GradientTransformation(init, update)
