"""Checks of learners before anything is compiled: arguments, batches, labels, padding, embeddings."""

import jax
import jax.numpy as jnp
import numpy as np

from metajax import checks
from metajax.losses import check_one_hot
from metajax.types import (
  Adapt,
  Array,
  Augmentation,
  Batch,
  Episode,
  Examples,
  Inputs,
  Network,
  Padded,
  Params,
  Predictor,
  State,
)


def check_adapt(adapt: Adapt):
  """Raises unless `adapt` is a function; an optimizer, for example, is not an inner loop.

  Raises:
    TypeError: With the given value.
  """
  checks.function("adapt", adapt, "such as gradient_steps(optax.sgd(0.4), 5)")


def check_augmentation(name: str, augmentation: Augmentation | None):
  """Raises unless an augmentation is a function of an image, or None for no augmentation.

  Raises:
    TypeError: Naming the argument.
  """
  if augmentation is not None:
    checks.function(name, augmentation, "(key, image) -> image")


def check_predictor(predictor: Predictor):
  """Raises unless a predictor is a function.

  Raises:
    TypeError: With the given value.
  """
  checks.function("predictor", predictor, "embed -> predict, such as nearest_centroid")


def check_episodes(episodes: Episode):
  """Checks a batch of classification episodes before anything is compiled.

  Raises:
    ValueError: If the batch is not an `Episode`, labels are not one-hot `[tasks, n, ways]`, a support or query set is
      empty, or images are not scaled to [0, 1].
  """
  if not isinstance(episodes, Episode):
    raise ValueError(f"expected a batch of Episodes, got one of type {type(episodes).__name__}")
  for name, examples in episodes._asdict().items():
    shape = jnp.shape(examples.labels)
    if len(shape) != 3 or 0 in shape:
      raise ValueError(f"expected one-hot {name} labels [tasks, n, ways], none of them 0, got shape {list(shape)}")
    checks.not_bytes(f"{name} inputs", examples.inputs)
    check_one_hot(examples.labels)


def check_examples(batch: Examples):
  """Checks a batch of labeled examples before anything is compiled.

  Raises:
    ValueError: If the batch is not `Examples`, labels are not one-hot `[n, classes]`, or images are not scaled to
      [0, 1].
  """
  if not isinstance(batch, Examples):
    raise ValueError(f"expected a batch of Examples, got one of type {type(batch).__name__}")
  checks.not_bytes("inputs", batch.inputs)
  if jnp.ndim(batch.labels) != 2:
    raise ValueError(f"expected one-hot labels [n, classes], got an array of shape {list(jnp.shape(batch.labels))}")
  check_one_hot(batch.labels)


def check_padding(state: State, episodes: Episode):
  """Runs `check_padded_rows` on support and query sets; fully padded tasks are allowed."""
  for name, examples in episodes._asdict().items():
    check_padded_rows(state, examples, f" in the {name}")


def check_padded_rows(state: State, examples: Examples, where: str = ""):
  """Raises on padded rows if the network keeps batch statistics, which would include them, and no mask is given.

  Raises:
    ValueError: If some rows of labels `[..., n, ways]` are zero and others of the same set are not, and the inputs are
      not `Padded`; or if these have a mask that does not fit the labels.
  """
  if isinstance(examples.labels, jax.core.Tracer):
    return
  labeled = np.asarray(examples.labels).any(-1)
  if isinstance(examples.inputs, Padded):
    _check_mask_of_labels(examples.inputs.mask, labeled, where)
  elif jax.tree.leaves(state) and (labeled.any(-1) & ~labeled.all(-1)).any():
    raise ValueError(
      f"expected no padded rows with a network that keeps batch statistics, got some{where}: give the inputs as Padded"
    )


def _check_mask_of_labels(mask, labeled, where):
  if jnp.shape(mask) != labeled.shape or jnp.result_type(mask).kind != "b":
    raise ValueError(f"expected a bool mask {list(labeled.shape)}, got {checks.describe(mask)}{where}")
  if not isinstance(mask, jax.core.Tracer) and (np.asarray(mask) & ~labeled).any():
    raise ValueError(f"expected a mask that is false where a row has no label, got a true one{where}")


def check_mask(network: Network, params: Params, state: State, *inputs: Inputs):
  """Raises if inputs are `Padded` and a network that keeps batch statistics takes no mask, before anything is compiled.

  Raises:
    ValueError: Naming the network's module.
  """
  if any(isinstance(one, Padded) for one in inputs):
    key = jax.random.key(0)
    jax.eval_shape(lambda: network.apply(params, state, *inputs, train=True, key=key)[0])


def check_embedding(network: Network, params: Params, state: State, inputs: Inputs):
  """Raises unless a network embeds inputs as rows `[n, d]`.

  Raises:
    ValueError: With the shape of the output.
  """
  check_rows(jax.eval_shape(lambda: network.apply(params, state, inputs, train=False)[0]))


def check_rows(features: Array | jax.ShapeDtypeStruct):
  """Raises unless embeddings are rows `[n, d]`.

  Raises:
    ValueError: With their shape.
  """
  if len(features.shape) != 2:
    raise ValueError(f"expected a network that embeds inputs as [n, d], got an output of shape {list(features.shape)}")


def check_positives(batch: Examples):
  """Raises if a labeled batch has no positive or no negative pair.

  Raises:
    ValueError: With the number of rows per class.
  """
  counts = batch.labels.sum(0)
  if not isinstance(counts, jax.core.Tracer) and not ((counts >= 2).any() and (counts > 0).sum() >= 2):
    raise ValueError(f"expected two rows of one class and one of another in a batch, got {counts.tolist()} per class")


def check_views(inputs: Array, least: int = 2):
  """Checks a batch of inputs to contrast, before anything is compiled.

  Raises:
    ValueError: If the batch is not a floating array with at least two axes and `least` rows, if a value is not finite,
      or if images `[n, h, w, c]` have values outside [0, 1].
  """
  checks.not_bytes("images", inputs)
  if not hasattr(inputs, "shape") or not jnp.issubdtype(inputs.dtype, jnp.floating) or inputs.ndim < 2:
    given = f"{inputs.dtype} {list(inputs.shape)}" if hasattr(inputs, "shape") else f"a {type(inputs).__name__}"
    raise ValueError(f"expected images, a floating array [n, height, width, channels], got {given}")
  if len(inputs) < least:
    why = ", each other's negatives" if least > 1 else ""
    raise ValueError(f"expected at least {least} images in a batch{why}, got {len(inputs)}")
  if isinstance(inputs, jax.core.Tracer):
    return
  low, high = float(np.min(inputs)), float(np.max(inputs))
  given = "NaN" if np.isnan(low) else f"values from {low:g} to {high:g}"
  if not np.isfinite([low, high]).all():
    raise ValueError(f"expected finite values, got {given}")
  if inputs.ndim == 4 and not (low >= 0 and high <= 1):
    raise ValueError(f"expected images with values from 0 to 1, got {given}")


def inputs_of(batch: Batch) -> Inputs:
  """The inputs of `Examples`, without their labels; any other batch unchanged."""
  return batch.inputs if isinstance(batch, Examples) else batch
