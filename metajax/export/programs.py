"""The two programs of an export, `embed` and `predict`, with symbolic numbers of rows and classes."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import export as jax_export

from metajax.tree import is_key
from metajax.types import Episode, Learner, Params, State

TOLERANCE = 1e-4  # largest difference of a program from the learner, relative to the largest value
JOINT = 1e-3  # a larger difference of a prediction without the other rows makes predictions joint


class Exported(NamedTuple):
  """Exported programs, and the number of classes of `predict` if it is fixed."""

  embed: jax_export.Exported
  predict: jax_export.Exported
  ways: int | None


def flat_arrays(tree: Any) -> tuple[list[str], list[np.ndarray], Callable[[list], Any]]:
  """Returns the name of each array of a tree, the arrays, and a function from arrays to the tree; keys are integers."""
  leaves, structure = jax.tree.flatten(tree)
  names = [jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in jax.tree.leaves_with_path(tree)]
  kinds = [jax.random.key_impl(leaf) if is_key(leaf) else None for leaf in leaves]

  def restore(arrays):
    wrapped = [
      x if kind is None else jax.random.wrap_key_data(x, impl=kind) for x, kind in zip(arrays, kinds, strict=True)
    ]
    return jax.tree.unflatten(structure, wrapped)

  arrays = [np.asarray(x if kind is None else jax.random.key_data(x)) for x, kind in zip(leaves, kinds, strict=True)]
  return names, arrays, restore


def export(
  learner: Learner, restore: Callable, arrays: list[np.ndarray], example: Episode, platforms: tuple[str, ...]
) -> Exported:
  """Exports `embed` and `predict`.

  Raises:
    ValueError: If a function does not serve any number of rows.
  """
  structure = jax.tree.structure(example.query.inputs)

  def embed(arrays, inputs):
    return learner.embed(*restore(arrays), structure.unflatten(inputs))

  def predict(arrays, support, labels, inputs):
    support = example.support._replace(inputs=structure.unflatten(support), labels=labels)
    return learner.predict(*restore(arrays), support, structure.unflatten(inputs))

  def exported(function, *specs):
    return jax_export.export(jax.jit(function), platforms=platforms)(*specs)

  given = [jax.ShapeDtypeStruct(array.shape, array.dtype) for array in arrays]
  try:
    (n,) = jax_export.symbolic_shape("n", constraints=_positive(["n"]))
    of_embed = exported(embed, given, _rows(example.query.inputs, n))
    try:
      of_predict, ways = exported(predict, given, *_task(example, "n, s, w")), None
    except Exception:  # a head of fixed width
      of_predict, ways = exported(predict, given, *_task(example, "n, s")), example.support.labels.shape[1]
  except Exception as error:
    said = " ".join(str(error).split())[:300]
    if "_DimExpr" in said:
      said += ": take the number of rows as inputs.shape[0], not len(inputs), and compute with it in jax.numpy alone"
    raise ValueError(
      f"expected a learner that serves any number of rows, got {type(error).__name__}: {said}"
    ) from error
  return Exported(of_embed, of_predict, ways)


def described(exported: jax_export.Exported) -> dict[str, Any]:
  """What a reader needs to call a program, as JSON types: its arguments, such as "float32[n, 28, 28, 1]", and so on."""

  def of(avals):
    return [f"{aval.dtype}[{', '.join(map(str, aval.shape))}]" for aval in avals]

  arguments, _ = jax.tree.unflatten(exported.in_tree, of(exported.in_avals))
  symbols = {str(size) for aval in exported.in_avals for size in aval.shape if not isinstance(size, int)}
  return {
    "arguments": list(arguments),
    "result": of(exported.out_avals)[0],
    "constraints": _positive(sorted(symbols)),
    "calling_convention_version": exported.calling_convention_version,
    "module_kept_var_idx": list(exported.module_kept_var_idx),
    "uses_global_constants": exported.uses_global_constants,
  }


def check(
  learner: Learner, params: Params, state: State, exported: Exported, arrays: list[np.ndarray], example: Episode
) -> tuple[np.ndarray, np.ndarray]:
  """Returns features and logits of the example by the exported programs, after comparing them with the learner's.

  Raises:
    ValueError: If they differ.
  """
  features = np.asarray(jax.jit(exported.embed.call)(arrays, jax.tree.leaves(example.query.inputs)), np.float32)
  logits = predicted(exported, arrays, example, example.query.inputs)
  expected = (
    jax.jit(learner.embed)(params, state, example.query.inputs),
    jax.jit(learner.predict)(params, state, example.support, example.query.inputs),
  )
  for name, found, wanted in zip(("features", "logits"), (features, logits), expected, strict=True):
    wanted = np.asarray(wanted, np.float32)
    apart = np.abs(found - wanted).max() / max(1e-6, np.abs(wanted).max())
    if not apart <= TOLERANCE:
      raise ValueError(f"expected exported {name} like the learner's, got a relative difference of {apart:.1e}")
  return features, logits


def is_joint(exported: Exported, arrays: list[np.ndarray], example: Episode, logits: np.ndarray) -> bool:
  """Whether the logits of a row depend on the other rows, as with batch statistics of the queries."""
  alone = predicted(exported, arrays, example, jax.tree.map(lambda x: x[:1], example.query.inputs))
  return not np.abs(logits[:1] - alone).max() <= JOINT * max(1e-6, np.abs(logits).max())


def predicted(exported: Exported, arrays: list[np.ndarray], example: Episode, inputs: Any) -> np.ndarray:
  """Logits of inputs by the exported program, with the support set of an example."""
  support, labels = jax.tree.leaves(example.support.inputs), np.asarray(example.support.labels, np.float32)
  return np.asarray(jax.jit(exported.predict.call)(arrays, support, labels, jax.tree.leaves(inputs)), np.float32)


def _task(example: Episode, symbols: str) -> tuple:
  """Support inputs, labels and inputs like an example's, with symbolic numbers of rows and perhaps of classes."""
  n, s, *w = jax_export.symbolic_shape(symbols, constraints=_positive(symbols.split(", ")))
  labels = jax.ShapeDtypeStruct((s, *(w or example.support.labels.shape[1:])), np.float32)
  return _rows(example.support.inputs, s), labels, _rows(example.query.inputs, n)


def _positive(symbols: list[str]) -> list[str]:
  return [f"{symbol} >= 1" for symbol in symbols]


def _rows(inputs: Any, number: Any) -> list[jax.ShapeDtypeStruct]:
  return [jax.ShapeDtypeStruct((number, *leaf.shape[1:]), leaf.dtype) for leaf in jax.tree.leaves(inputs)]
