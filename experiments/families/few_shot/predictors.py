"""Predictors on the frozen features of finished runs, in place of their own predictions."""

from collections.abc import Callable
from typing import Literal, NamedTuple

import jax.numpy as jnp
import numpy as np

from metajax import predictors
from metajax.data import ImageDataset
from metajax.experiment import EvalMode
from metajax.types import Array, EmbedFn, PredictFn

Name = Literal["nearest_centroid", "cl2n", "bd_cspn", "laplacian_shot", "tim", "pt_map"]
BASE = 128  # training images whose mean feature is subtracted


class _Predictor(NamedTuple):
  """A function `(embed, training images) -> predict`, and whether it classifies the queries of a task together."""

  make: Callable[[EmbedFn, Array], PredictFn]
  transductive: bool


def _cl2n(embed: EmbedFn, base: Array) -> EmbedFn:
  """Features minus the mean feature of training images, with norm 1 (arXiv:1911.04623)."""

  def centered(params, state, inputs):
    return predictors.centered(embed, embed(params, state, base).mean(0))(params, state, inputs)

  return centered


_OF: dict[str, _Predictor] = {
  "nearest_centroid": _Predictor(lambda embed, base: predictors.nearest_centroid(predictors.normalized(embed)), False),
  "cl2n": _Predictor(lambda embed, base: predictors.nearest_centroid(_cl2n(embed, base)), False),
  "bd_cspn": _Predictor(lambda embed, base: predictors.bd_cspn(_cl2n(embed, base)), True),
  "laplacian_shot": _Predictor(lambda embed, base: predictors.laplacian_shot(_cl2n(embed, base)), True),
  "tim": _Predictor(lambda embed, base: predictors.tim(embed), True),
  "pt_map": _Predictor(lambda embed, base: predictors.pt_map(embed), True),
}


def with_predictor(mode: EvalMode, name: Name, training: ImageDataset) -> EvalMode:
  """The mode with a predictor on its features; records say whether it is transductive.

  Args:
    mode: Mode of a run.
    name: Name of the predictor.
    training: Training images of the run, of which some center the features.
  """
  rows = np.linspace(0, len(training.labels) - 1, min(BASE, len(training.labels))).astype(int)
  base = jnp.asarray(training.images[rows], jnp.float32) / 255
  found = _OF[name]
  learner = mode.learner._replace(predict=found.make(mode.learner.embed, base))
  said = (*mode.said, ("transductive", found.transductive))
  return mode._replace(learner=learner, after=None, variant=(*mode.variant, name), said=said)
