"""An exponential moving average of the parameters."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from metajax import checks
from metajax.train.given import check_optimizer
from metajax.train.step import TrainState
from metajax.tree import is_floating, wide
from metajax.types import Params


class AveragedState(NamedTuple):
  """State of `with_ema`: that of the optimizer, and the average of the parameters, in at least 32 bits."""

  inner: Any
  ema: Params


def with_ema(optimizer: optax.GradientTransformation, ema_decay: float) -> optax.GradientTransformation:
  """Adds an exponential moving average of the parameters to an optimizer (Polyak and Juditsky 1992).

      average_0 = params_0,   average_t = d average_{t-1} + (1 - d) params_t

  The training is unchanged. `fit` validates the average, and `averaged` gives the TrainState that has it as its params.
  Statistics of batch norm are not averaged: they are those of the last step.

  Args:
    optimizer: Optimizer of the training.
    ema_decay: Decay `d`, at least 0 and below 1, such as 0.9999.

  Returns:
    An optax optimizer whose updates are those of `optimizer`; it needs the parameters.

  Raises:
    TypeError: if `optimizer` is not an optax optimizer.
    ValueError: if the decay is out of range.

  Example:
    >>> import jax.numpy as jnp, optax
    >>> from metajax.train import with_ema
    >>> optimizer = with_ema(optax.sgd(1.0), 0.9)
    >>> params = jnp.ones(())
    >>> _, state = optimizer.update(jnp.ones(()), optimizer.init(params), params)  # the params become 0
    >>> round(float(state.ema), 6)
    0.9
  """
  check_optimizer(optimizer)
  checks.in_range("ema_decay", ema_decay, 0, 1 - 2**-24)  # the largest number below 1 in 32 bits

  def init(params):
    return AveragedState(optimizer.init(params), jax.tree.map(lambda x: jnp.copy(_wide(x)), params))

  def update(updates, state, params=None, **extra):
    if params is None:
      raise ValueError("expected the params, of which with_ema keeps an average, got None")
    updates, inner = optax.with_extra_args_support(optimizer).update(updates, state.inner, params, **extra)
    new = optax.apply_updates(params, updates)
    return updates, AveragedState(inner, jax.tree.map(lambda old, x: _mean(ema_decay, old, x), state.ema, new))

  return optax.GradientTransformationExtraArgs(init, update)


def averaged(train_state: TrainState) -> TrainState:
  """Returns the TrainState with the average of `with_ema` as its params; without one, the TrainState itself."""
  kept = train_state.optimizer_state
  if not isinstance(kept, AveragedState):
    return train_state
  return train_state._replace(params=jax.tree.map(lambda x, like: x.astype(like.dtype), kept.ema, train_state.params))


def _mean(decay, old, new):
  return decay * old + (1 - decay) * wide(new) if is_floating(new) else new


def _wide(x):
  return wide(x) if is_floating(x) else x
