"""Optimizers of pretraining: masks, schedules and rates are those of the papers."""

import jax
import numpy as np
import pytest

from metajax.train import adamw, is_weight, lars, scale_learning_rate, warmup_cosine

PARAMS = {
  "kernel": np.full((2, 3), 2, np.float32),
  "bias": np.full(3, 2, np.float32),
  "norm": {"scale": np.full(3, 2, np.float32)},
  "t": np.ones((), np.float32),
}


def test_weights_are_what_has_two_axes():
  assert is_weight(PARAMS) == {"kernel": True, "bias": False, "norm": {"scale": False}, "t": False}


def moved(optimizer, gradient):
  update = jax.jit(lambda gradient, params: optimizer.update(gradient, optimizer.init(params), params)[0])
  return jax.device_get(update(gradient, PARAMS))


def test_lars_trusts_weights_and_leaves_biases_and_norms_to_momentum():
  gradient = jax.tree.map(lambda x: np.full_like(x, 0.5), PARAMS)
  found = moved(lars(0.1, weight_decay=0.01), gradient)
  g = 0.5 + 0.01 * 2
  trust = 0.001 * (2 * np.sqrt(6)) / (g * np.sqrt(6))
  np.testing.assert_allclose(found["kernel"], -0.1 * trust * g, rtol=1e-5)
  for plain in (found["bias"], found["norm"]["scale"], found["t"]):
    np.testing.assert_allclose(plain, -0.1 * 0.5, rtol=1e-6)


def test_adamw_decays_weights_alone():
  found = moved(adamw(0.1, weight_decay=0.2), jax.tree.map(np.zeros_like, PARAMS))
  np.testing.assert_allclose(found["kernel"], -0.1 * 0.2 * 2, rtol=1e-6)
  assert not found["bias"].any() and not found["norm"]["scale"].any() and not found["t"].any()


def test_the_rate_rises_along_a_line_and_falls_along_a_cosine():
  rate = warmup_cosine(0.4, 100, 20)
  np.testing.assert_allclose([rate(0), rate(5), rate(20), rate(60), rate(100)], [0, 0.1, 0.4, 0.2, 0], atol=1e-7)
  assert warmup_cosine(0.4, 100, 0)(0) == pytest.approx(0.4)
  with pytest.raises(ValueError, match="warmup_steps from 0 to 9, got 10"):
    warmup_cosine(0.1, 10, 10)


def test_the_rate_grows_with_the_batch_or_its_root():
  assert scale_learning_rate(0.3, 4096) == pytest.approx(4.8)  # SimCLR's
  assert scale_learning_rate(1.2, 4096, "square_root") == pytest.approx(0.075 * 64)
  with pytest.raises(ValueError, match="one of 'linear', 'square_root', got 'cubic'"):
    scale_learning_rate(0.3, 256, "cubic")
  with pytest.raises(ValueError, match="at least 1, got 0"):
    scale_learning_rate(0.3, 0)
