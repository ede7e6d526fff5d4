"""Low-rank adapters of a network's kernels (LoRA, arXiv:2106.09685), for any network of matrix products."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal, jaxpr_as_fun

from metajax import checks
from metajax.compose.combinators import check_networks, split
from metajax.types import Array, Network, Params

PASSING = ("reshape", "convert_element_type", "copy", "stop_gradient")  # a kernel is still a kernel after them
INNER = ("pjit", "jit", "closed_call")


class _Kernel(NamedTuple):
  """A param on its way to a product: its path and its current form."""

  path: str
  value: Array


class _Adapters(NamedTuple):
  """The adapters of kernels by path, and the sizes `(rows, columns)` of the kernels that were met in products."""

  of: dict[str, dict[str, Array]]
  scale: float
  met: dict[str, tuple[int, int]]


def low_rank(
  network: Network,
  rank: int,
  *,
  alpha: float | None = None,
  names: Sequence[str] = (),
  freeze: bool = True,
) -> Network:
  """Adds a low-rank product to each kernel of a network (LoRA, arXiv:2106.09685):

      x W + (alpha / rank) (x down) up

  Neither `down up` nor a gradient of W's size is computed, so that an inner loop over the adapters alone,
  `only("low_rank", ...)`, costs the adapters, not the network. Kernels are found in the network's own program: params
  that a matrix product multiplies from the right, such as those of `flax.linen.Dense` and `DenseGeneral`. At init `up`
  is 0, and the outputs are those of the network.

  Args:
    network: The Network, e.g. a published encoder `with_pretrained_params(encoder.network, encoder.params)`.
    rank: Rank of the adapters.
    alpha: Numerator of their scale; by default `rank`, a scale of 1.
    names: Parts of the paths of the kernels to adapt, such as "query" and "value"; by default all kernels.
    freeze: Pass no gradient to the network's own params. An optimizer's weight decay would still change them.

  Returns:
    A Network with the params `{"network": ..., "low_rank": {path: {"down": [rows, rank], "up": [rank, columns]}}}`.

  Raises:
    TypeError: if `network` is not a Network.
    ValueError: if `rank` is below 1; at init, if no kernel has such a name, or one is used in several shapes.

  Example:
    >>> import jax, jax.numpy as jnp, optax
    >>> from metajax.adapt import gradient_steps, only
    >>> from metajax.compose import linear, low_rank, with_head
    >>> from metajax.networks import mlp
    >>> network = with_head(low_rank(mlp([64], 32), rank=2), linear(5))
    >>> params, _ = network.init(jax.random.key(0), jnp.ones([2, 16]))
    >>> {path: adapter["down"].shape for path, adapter in params["encoder"]["low_rank"].items()}
    {'Dense_0.kernel': (16, 2), 'Dense_1.kernel': (64, 2)}
    >>> adapt = only(["encoder/low_rank", "head"], gradient_steps(optax.sgd(0.1), steps=5))
  """
  check_networks(network=network)
  if rank < 1:
    raise ValueError(f"expected a rank of at least 1, got {rank}")
  scale = (rank if alpha is None else alpha) / rank

  def init(key, *inputs):
    first, second = split(key, 2)
    params, state = network.init(first, *inputs)
    return {"network": params, "low_rank": _drawn(second, _kernels(network, params, state, inputs, names), rank)}, state

  def apply(params, state, *inputs, train, key=None):
    own = lax.stop_gradient(params["network"]) if freeze else params["network"]
    return _applied(network, own, state, inputs, train, key, _Adapters(params["low_rank"], scale, {}))

  return Network(init, apply)


def merge_low_rank(params: Params, *, alpha: float | None = None) -> Params:
  """Merges trained adapters into the params of the network itself: `W + (alpha / rank) down up` for each kernel W.

  Args:
    params: Params of `low_rank(network, rank)`.
    alpha: As for `low_rank`.

  Returns:
    Params of `network`, with its outputs up to rounding.

  Raises:
    ValueError: if the params have no adapters, or one for a kernel that the network does not have.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> from metajax.compose import linear, low_rank, merge_low_rank
    >>> params, _ = low_rank(linear(5), rank=2).init(jax.random.key(0), jnp.ones([2, 3]))
    >>> merge_low_rank(params)["weight"].shape
    (3, 5)
  """
  if not isinstance(params, Mapping) or set(params) != {"network", "low_rank"}:
    raise ValueError(f"expected params of low_rank, 'network' and 'low_rank', got {checks.describe(params)}")
  adapters = dict(params["low_rank"])

  def merged(path, kernel):
    if (adapter := adapters.pop(_name(path), None)) is None:
      return kernel
    down, up = adapter["down"], adapter["up"]
    scale = (down.shape[1] if alpha is None else alpha) / down.shape[1]
    return kernel + (scale * down @ up).reshape(kernel.shape).astype(kernel.dtype)

  found = jax.tree.map_with_path(merged, params["network"])
  if adapters:
    raise ValueError(f"expected adapters of the network's kernels, got {', '.join(map(repr, adapters))}")
  return found


def _drawn(key, sizes: dict[str, tuple[int, int]], rank: int) -> dict[str, dict[str, Array]]:
  return {
    path: {"down": jax.random.normal(k, (rows, rank)) / rows**0.5, "up": jnp.zeros((rank, columns))}
    for k, (path, (rows, columns)) in zip(jax.random.split(key, len(sizes)), sizes.items(), strict=True)
  }


def _kernels(network: Network, params, state, inputs, names) -> dict[str, tuple[int, int]]:
  """Returns the sizes of the kernels with such names, by path."""
  adapters = _Adapters({}, 1.0, {})
  jax.eval_shape(lambda *given: _applied(network, *given, False, None, adapters), params, state, inputs)
  found = {path: size for path, size in adapters.met.items() if not names or any(name in path for name in names)}
  if not found:
    of = f" with {', '.join(map(repr, names))} in the path" if names else ""
    known = ", ".join(map(repr, sorted(adapters.met))) or "none"
    raise ValueError(f"expected kernels of matrix products{of}, the network has {known}")
  return found


def _applied(network, params, state, inputs, train, key, adapters: _Adapters):
  """Applies a network whose kernels have adapters."""

  def run(params, state, inputs, key):
    return network.apply(params, state, *inputs, train=train, key=key)

  program, shapes = jax.make_jaxpr(run, return_shape=True)(params, state, inputs, key)
  paths = [_name(path) for path, _ in jax.tree.leaves_with_path(params)]
  leaves = [_Kernel(path, leaf) for path, leaf in zip(paths, jax.tree.leaves(params), strict=True)]
  outputs = _run(program.jaxpr, program.consts, leaves + jax.tree.leaves((state, inputs, key)), adapters)
  return jax.tree.unflatten(jax.tree.structure(shapes), [_plain(x) for x in outputs])


def _run(jaxpr: Jaxpr, consts: Sequence[Any], arguments: Sequence[Any], adapters: _Adapters) -> list[Any]:
  """Runs a program, of which some arguments are kernels."""
  known = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*consts, *arguments), strict=True))
  for eqn in jaxpr.eqns:
    given = [x.val if isinstance(x, Literal) else known[x] for x in eqn.invars]
    found = _equation(jaxpr, eqn, given, adapters)
    known |= zip(eqn.outvars, found, strict=True)
  return [x.val if isinstance(x, Literal) else known[x] for x in jaxpr.outvars]


def _equation(jaxpr: Jaxpr, eqn, given: list[Any], adapters: _Adapters) -> list[Any]:
  name, is_kernel = eqn.primitive.name, [isinstance(x, _Kernel) for x in given]
  if any(is_kernel) and name in INNER:
    return _run(eqn.params["jaxpr"].jaxpr, eqn.params["jaxpr"].consts, given, adapters)
  found = _evaluated(jaxpr, eqn, [_plain(x) for x in given])
  if name in PASSING and is_kernel == [True]:
    return [_Kernel(given[0].path, found[0])]
  if name in ("dot_general", "matmul") and is_kernel == [False, True] and _is_plain(eqn):
    added = _adapted(eqn, *given, adapters)
    return found if added is None else [found[0] + added]
  return found


def _evaluated(jaxpr: Jaxpr, eqn, given: list[Any]) -> list[Any]:
  """Returns the results of an equation of a program."""
  variables = {x: value for x, value in zip(eqn.invars, given, strict=True) if not isinstance(x, Literal)}
  program = jaxpr.replace(constvars=[], invars=list(variables), outvars=eqn.outvars, eqns=[eqn], effects=eqn.effects)
  return jaxpr_as_fun(ClosedJaxpr(program, ()))(*variables.values())


def _is_plain(eqn) -> bool:
  """Whether a product contracts the leading axes of its kernel."""
  if eqn.primitive.name == "matmul":
    return True
  (_, axes), batch = eqn.params["dimension_numbers"]
  return tuple(axes) == tuple(range(len(axes))) and not any(batch)


def _adapted(eqn, inputs: Array, kernel: _Kernel, adapters: _Adapters) -> Array | None:
  """Returns what an adapter adds to a product; None without an adapter."""
  axes = 1 if eqn.primitive.name == "matmul" else len(eqn.params["dimension_numbers"][0][1])
  inner, outer = kernel.value.shape[:axes], kernel.value.shape[axes:]
  size = (math.prod(inner), math.prod(outer))
  if adapters.met.setdefault(kernel.path, size) != size:
    raise ValueError(f"expected {kernel.path!r} in products of one shape, got {adapters.met[kernel.path]} and {size}")
  if kernel.path not in adapters.of:
    return None
  down, up = (adapters.of[kernel.path][part].astype(kernel.value.dtype) for part in ("down", "up"))
  narrow = eqn.primitive.bind(inputs, down.reshape(*inner, -1), **eqn.params)
  wide = narrow.astype(inputs.dtype) @ up.reshape(up.shape[0], -1)
  return (adapters.scale * wide).reshape(*narrow.shape[:-1], *outer).astype(narrow.dtype)


def _name(path: tuple) -> str:
  """Returns the name of a param; a slash would divide it into folders in a checkpoint."""
  return jax.tree_util.keystr(path, simple=True, separator=".").replace("/", ".")


def _plain(x: Any) -> Any:
  return x.value if isinstance(x, _Kernel) else x
