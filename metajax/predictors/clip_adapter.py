"""CLIP-Adapter (arXiv:2110.04544): a small perceptron beside the features of an image-text model."""

import jax
import jax.numpy as jnp

from metajax import checks
from metajax.losses import cross_entropy
from metajax.predictors.image_text import check_embed, embedded
from metajax.predictors.logits import without_empty_ways
from metajax.similarity import cosines, unit_rows
from metajax.tree import wide
from metajax.types import Adapt, Array, EmbedFn, Examples, PredictFn


def clip_adapter(
  embed: EmbedFn, adapt: Adapt, *, ratio: float = 0.2, reduction: int = 4, scale: float = 100.0
) -> PredictFn:
  """CLIP-Adapter (arXiv:2110.04544): mixes the image features with those of a trained bottleneck.

      f'(x) = ratio relu(relu(f(x) A) B) + (1 - ratio) f(x),   logits_k(x) = scale cos(f'(x), t_k)

  `A` and `B` are trained on the cross-entropy of the support, on features of norm 1. Choose the ratio among several by
  `leave_one_out`.

  Args:
    embed: `(params, state, inputs) -> [n, d]` of images and of integer tokens, e.g. the `embed` of `learners.clip`.
    adapt: Inner loop of `A` and `B`, e.g. `gradient_steps(optax.adam(1e-3), 100, gradient="first_order")`.
    ratio: Share of the trained features, from 0 to 1.
    reduction: `A` maps `d` values to `d / reduction`.
    scale: Factor of the cosines, above 0; CLIP's is 100.

  Returns:
    A `predict` for a support set of pairs, as of `zero_shot`. `A` and `B` start alike in every task.

  Raises:
    TypeError, ValueError: as for `zero_shot`, and if `adapt` is not a function, `ratio` not from 0 to 1 or `reduction`
      below 1; when called, if `reduction` is above `d`.
  """
  check_embed(embed, scale)
  checks.function("adapt", adapt, "such as gradient_steps(optax.adam(1e-3), 100)")
  checks.count("reduction", reduction)
  if not 0 <= ratio <= 1:
    raise ValueError(f"expected a ratio from 0 to 1, got {ratio}")

  def predict(params, state, support, inputs):
    features, texts = embedded(embed, params, state, support)

    def logits(matrices, features):
      return without_empty_ways(scale * cosines(_mixed(matrices, features, ratio), texts), support.labels)

    def loss(matrices, known):
      return cross_entropy(logits(matrices, known.inputs), known.labels)

    adapted, _ = adapt(loss, _start(features.shape[1], reduction), Examples(features, support.labels))
    return logits(adapted, unit_rows(wide(embed(params, state, inputs))))

  return predict


def _mixed(matrices: dict, features: Array, ratio: float) -> Array:
  inner = jax.nn.relu(jax.nn.relu(features @ matrices["down"]) @ matrices["up"])
  return ratio * inner + (1 - ratio) * features


def _start(width: int, reduction: int) -> dict:
  if reduction > width:
    raise ValueError(f"expected a reduction of at most the {width} features, got {reduction}")
  inner, normal = width // reduction, jax.nn.initializers.lecun_normal()
  down, up = jax.random.split(jax.random.key(0))
  return {"down": normal(down, (width, inner), jnp.float32), "up": normal(up, (inner, width), jnp.float32)}
