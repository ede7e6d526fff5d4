"""Predictors that adapt an image-text model to a few labeled images, by name."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal, get_args

import jax
import jax.numpy as jnp
import optax

from metajax import gradient_steps, predictors
from metajax.augment.image import affine, compose, random_flip, random_resized_crop
from metajax.types import Adapt, Augmentation, EmbedFn, Network, Pair, PredictFn, Predictor

Method = Literal["zero_shot", "linear_probe", "tip_adapter", "tip_adapter_f", "lp_plus_plus", "clip_adapter", "coop"]
METHODS: tuple[Method, ...] = get_args(Method)
FOLDS = 4  # of the support set, where a candidate trains
RATIOS = (0.2, 0.4, 0.6, 0.8)  # of CLIP-Adapter
PROBE_RATES = (0.01, 0.1)  # learning rates of the linear probe


def predictor(
  method: Method, embed: EmbedFn, text: Network, width: int, context: int, augmentation: Augmentation, scale: float
) -> PredictFn:
  """A predictor on a CLIP, with the settings of its paper; what the paper tunes is chosen on the support set.

  Args:
    method: Name of the predictor.
    embed: The learner's `embed`.
    text: Text tower.
    width: Width of the text tower.
    context: Number of context vectors of CoOp.
    augmentation: Augmentation of Tip-Adapter-F.
    scale: Factor of the cosines.
  """
  if method == "zero_shot":
    return predictors.zero_shot(embed, scale=scale)
  if method == "tip_adapter":
    return predictors.tip_adapter(embed, scale=scale)
  if method == "tip_adapter_f":
    keys = _cosine(partial(optax.adamw, eps=1e-4), 1e-3, 20)
    return predictors.tip_adapter_f(embed, keys, augmentation, scale=scale)
  if method == "lp_plus_plus":
    return predictors.lp_plus_plus(embed, scale=scale)
  if method == "clip_adapter":
    return predictors.leave_one_out(embed, _clip_adapters(scale), folds=FOLDS)
  if method == "coop":
    return predictors.leave_one_out(embed, [partial(_coop, text, width, context, scale)], folds=FOLDS)
  return predictors.leave_one_out(embed, _probes(), folds=FOLDS)


def augmentation_of(drawn: bool) -> Augmentation:
  """Augmentation of Tip-Adapter-F: of drawn characters small distortions, of other images crops and flips."""
  return affine(5.0, 0.1, (0.9, 1.1), 0.05) if drawn else compose(random_resized_crop(area=(0.5, 1.0)), random_flip())


def _cosine(optimizer: Callable, learning_rate: float, steps: int) -> Adapt:
  schedule = optax.cosine_decay_schedule(learning_rate, steps)
  return gradient_steps(optimizer(schedule), steps, gradient="first_order")


def _clip_adapters(scale: float) -> Sequence[Predictor]:
  adapt = _cosine(optax.adam, 1e-3, 100)
  return [partial(predictors.clip_adapter, adapt=adapt, ratio=ratio, scale=scale) for ratio in RATIOS]


def _coop(text: Network, width: int, context: int, scale: float, embed: EmbedFn) -> PredictFn:
  def embed_prompt(params, state, *prompt):
    return text.apply(params["text"], state["text"], *prompt, train=False)[0]

  start = 0.02 * jax.random.normal(jax.random.key(0), (context, width))
  return predictors.coop(embed, embed_prompt, _cosine(optax.adam, 2e-3, 100), start, scale=scale)


def _probes() -> Sequence[Predictor]:
  """Linear probes on the features of the images alone, scaled to a mean square of 1."""

  def probe(embed, learning_rate):
    def of_images(params, state, inputs):
      images = inputs.first if isinstance(inputs, Pair) else inputs
      features = predictors.normalized(embed)(params, state, images)
      return jnp.sqrt(features.shape[1]) * features

    return predictors.adapted_head(of_images, gradient_steps(optax.sgd(learning_rate), 200, gradient="first_order"))

  return [partial(probe, learning_rate=rate) for rate in PROBE_RATES]
