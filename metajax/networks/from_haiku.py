"""Haiku functions as `Network`s."""

from typing import Any

import jax

from metajax.networks._flags import flags_of, optional, parameters_of
from metajax.networks._padding import unpad
from metajax.types import Network


def from_haiku(transformed: Any) -> Network:
  """Makes a `Network` from a transformed Haiku function.

  The state is Haiku's, `{}` for `hk.transform`, returned as the function leaves it. Haiku is optional:
  `pip install dm-haiku` (tested with 0.0.17).

  A function that calls `hk.next_rng_key()` in training needs a key there. To train without noise where no key is given,
  as learners do when they predict, it takes `deterministic` alongside `is_training`, or calls
  `hk.maybe_next_rng_key()` and leaves dropout out if that is None.

  Args:
    transformed: `hk.transform_with_state(f)` or `hk.transform(f)`, where `f` takes the inputs and any of the flags of
      `from_linen`, such as `is_training`.

  Returns:
    A Network with the inputs and outputs of `f`.

  Raises:
    ModuleNotFoundError: if Haiku is not installed.
    TypeError: if `transformed` is not a transformed function, or one of `hk.without_apply_rng`, or `f` has another
      switch.
    ValueError: at apply, if `f` draws random numbers and no key is given.
  """
  hk = optional("haiku", "dm-haiku", "from_haiku")
  if not isinstance(transformed, hk.Transformed | hk.TransformedWithState):
    given = getattr(transformed, "__name__", f"a {type(transformed).__name__}")
    raise TypeError(f"expected hk.transform_with_state(f) or hk.transform(f), got {given}")
  if "rng" not in parameters_of(transformed.apply):
    raise TypeError("expected a transformed function whose apply takes rng, got one of hk.without_apply_rng")
  taken = parameters_of(transformed.init)
  del taken["rng"]
  flags = flags_of("the transformed function", taken)
  full = transformed if isinstance(transformed, hk.TransformedWithState) else hk.with_empty_state(transformed)

  def init(key, *inputs):
    inputs, _ = unpad("the transformed function", inputs, normalizes=False)
    # In training, because batch norm makes its state only there. Compiled, so that the forward pass is eliminated.
    return jax.jit(lambda key, *inputs: full.init(key, *inputs, **flags(True, True, True)))(key, *inputs)

  def apply(params, state, *inputs, train, key=None):
    inputs, _ = unpad("the transformed function", inputs, train and bool(state))
    try:
      return full.apply(params, state, key, *inputs, **flags(train, key is not None, bool(state)))
    except ValueError as error:
      if key is not None or type(error).__name__ != "MissingRNGError":  # Haiku does not export it
        raise
      advice = "draw them only where hk.maybe_next_rng_key() gives a key"
      raise ValueError(f"expected a key, because the function draws random numbers, got none: {advice}") from error

  return Network(init, apply)
