"""Predictors on the features of finished runs: what they are of, and which of them their records call transductive."""

from typing import get_args

import jax
import numpy as np
import pytest
from table_of_learners import image_episodes

from experiments.families.few_shot.predictors import Name, with_predictor
from metajax import predictors
from metajax.data import from_arrays
from metajax.evaluate import mean_and_ci
from metajax.experiment import EvalMode, FewShot
from metajax.types import Learner

TRAINING = from_arrays(np.random.default_rng(0).integers(0, 256, (40, 8, 8, 1), np.uint8), np.arange(40) % 4)


def embed(params, state, inputs):
  return inputs.reshape(len(inputs), -1) * params


def nothing(*_):
  raise AssertionError("the run's own prediction was used")


OWN = EvalMode("own", Learner(None, None, embed, nothing), "none", nothing, ("varied",), (("rate", 1.0),))


def logits(mode, params=2.0):
  support, query = jax.tree.map(lambda x: np.asarray(x[0])[..., :8, :8, :1] if x.ndim == 5 else x[0], image_episodes(0))
  predict = jax.jit(mode.learner.predict)
  return predict(params, {}, support, query.inputs), support, query.inputs


@pytest.mark.parametrize("name", get_args(Name))
def test_a_predictor_uses_the_features_and_its_records_say_whether_it_is_transductive(name):
  mode = with_predictor(OWN, name, TRAINING)
  found, support, queries = logits(mode)
  assert found.shape == (len(queries), support.labels.shape[1]) and np.isfinite(found).all()
  together = name in ("bd_cspn", "laplacian_shot", "tim", "pt_map")
  assert mode.variant == ("varied", name) and mode.after is None
  assert mode.said == (("rate", 1.0), ("transductive", together))
  score = mean_and_ci(np.array([50.0, 60.0]))
  scores = {OWN: [score], mode: [score]}
  tests = FewShot((OWN,), dict)
  written = tests.records((5, 1), scores, {}, 0) + tests.differences([OWN], [mode], scores, (5, 1), {}, 0)
  assert [one.about.get("transductive") for one in written] == [None, together, together]
  alone = np.concatenate([mode.learner.predict(2.0, {}, support, queries[:4]), found[4:]])
  assert together != bool(np.allclose(alone, found, atol=1e-4))


def test_cl2n_centers_by_the_training_images():
  found, support, queries = logits(with_predictor(OWN, "cl2n", TRAINING))
  flat = lambda images: 2.0 * np.asarray(images).reshape(len(images), -1)
  mean = flat(TRAINING.images / np.float32(255)).mean(0)
  centered = lambda images: (flat(images) - mean) / np.linalg.norm(flat(images) - mean, axis=1, keepdims=True)
  wanted = predictors.centroid_logits(centered(support.inputs), support.labels, centered(queries))
  np.testing.assert_allclose(found, wanted, atol=1e-4)
