"""How modules of other libraries are told whether they train, and how such a library is imported."""

import functools
import importlib
import inspect
from collections.abc import Callable, Mapping
from typing import Any, Protocol

TRAINING = ("train", "training", "is_training")
STILL = ("deterministic", "inference")
KINDS = f"any of the keywords {', '.join((*TRAINING, *STILL))} and use_running_average, or none"


class Flags(Protocol):
  """`(train, noise, stateful) -> {keyword: value}`: the flags of one call.

  `noise` is whether a key is given; `stateful` is whether the network has a state.
  """

  def __call__(self, train: bool, noise: bool, stateful: bool) -> dict[str, bool]: ...


def flags_of(name: str, parameters: Mapping[str, inspect.Parameter], into_keywords: bool = False) -> Flags:
  """Finds the flags among a function's parameters.

  Args:
    name: Name of the function in an error.
    parameters: Its parameters, without those that the caller sets.
    into_keywords: Whether a function with `**keywords` and no named flag is told `train`.

  Returns:
    A function from train, noise and stateful to the flags.

  Raises:
    TypeError: if there is another switch, such as `enable_dropout=False`, which would never be set.
  """
  training = [flag for flag in TRAINING if flag in parameters]
  still = [flag for flag in STILL if flag in parameters]
  averaged = "use_running_average" in parameters
  if into_keywords and not (training or still or averaged):
    training = ["train"] if any(p.kind is p.VAR_KEYWORD for p in parameters.values()) else []
  known = {*training, *still, "use_running_average"}

  def switches(p):
    return isinstance(p.default, bool) or (p.kind is p.KEYWORD_ONLY and p.default is p.empty)

  if more := [flag for flag, p in parameters.items() if flag not in known and switches(p)]:
    raise TypeError(f"expected {name} to take {KINDS}, got {', '.join(more)}")

  def flags(train, noise, stateful):
    values = dict.fromkeys(training, train)
    if averaged:
      values["use_running_average"] = not train
    # Alone in a network with a state such a flag serves batch norm too, which needs no key to train.
    quiet = not train or not (noise or (stateful and not values))
    return {**values, **dict.fromkeys(still, quiet)}

  return flags


def parameters_of(call: Callable) -> dict[str, inspect.Parameter]:
  """The parameters of a function by name."""
  return dict(inspect.signature(call).parameters)


def call_with(make: Callable, keyword: str, value: Any) -> Any:
  """Calls `make` with one argument, by keyword if it has such a parameter."""
  function = make
  while isinstance(function, functools.partial):
    function = function.func
  # The signature of a class is often that of its metaclass.
  taken = parameters_of(function.__init__ if isinstance(function, type) else function)
  return make(**{keyword: value}) if keyword in taken else make(value)


def optional(module: str, package: str, user: str) -> Any:
  """Imports a library that metajax does not depend on.

  Raises:
    ModuleNotFoundError: if it is not installed; the message gives the command that installs it.
  """
  try:
    return importlib.import_module(module)
  except ModuleNotFoundError as error:
    if error.name != module:
      raise
    say = f"{user} needs the package {package}, which is not installed: pip install {package}"
    raise ModuleNotFoundError(say, name=module) from None
