"""The cross-entropy over a vocabulary: tiled as dense, of any depth of derivative, on any devices, in flat memory."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metajax.losses import linear_cross_entropy, linear_log_prob
from metajax.mesh import make_mesh, shard_batch

VOCABULARY, TILE = 37, 10  # which does not divide it
random = np.random.default_rng(0)
FEATURES = random.normal(size=(16, 7, 12)).astype(np.float32)
VECTORS = random.normal(size=(VOCABULARY, 12)).astype(np.float32)
LABELS = random.integers(-1, VOCABULARY, (16, 7))


def loss(how, labels=LABELS, **more):
  tile = {"block_size": TILE} if how == "tiled" else {}
  return lambda given: linear_cross_entropy(*given, labels, implementation=how, **tile, **more)


def close(first, second, tolerance=1e-6):
  jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=tolerance, rtol=tolerance), first, second)


def test_dense_is_the_mean_over_tokens_that_are_there():
  logits = FEATURES.astype(np.float64) @ VECTORS.T
  each = np.log(np.exp(logits).sum(-1)) - np.take_along_axis(logits, np.maximum(LABELS, 0)[..., None], -1)[..., 0]
  close(jax.jit(loss("dense"))((FEATURES, VECTORS)), each[LABELS >= 0].mean())


def test_padding_weighs_nothing_whatever_its_weight():
  for how in ("dense", "tiled"):
    weighted = loss(how, weights=np.ones(LABELS.shape))
    close(*jax.jit(lambda given, how=how, weighted=weighted: (weighted(given), loss(how)(given)))((FEATURES, VECTORS)))


@pytest.mark.parametrize("label", [-100, -2, VOCABULARY, 1000])
def test_a_label_outside_the_vocabulary_is_refused_and_makes_nan_while_tracing(label):
  wrong = np.where(LABELS == 3, label, LABELS)
  with pytest.raises(ValueError, match=rf"expected labels from -1 to 36, got {label} at \["):
    loss("dense", wrong)((FEATURES, VECTORS))
  of = lambda how: jax.value_and_grad(lambda given, labels: loss(how, labels)(given))
  run = jax.jit(lambda labels: ([of(how)((FEATURES, VECTORS), labels) for how in ("dense", "tiled")],
                                linear_log_prob(FEATURES, VECTORS, labels, block_size=TILE)))  # fmt: skip
  values, each = run(wrong)
  for value, gradient in values:
    assert np.isnan(value) and np.isnan(gradient[0]).any()
  np.testing.assert_array_equal(np.isnan(each), wrong == label)
  assert all(np.isfinite(value) for value, _ in run(LABELS)[0])


def test_labels_of_8_bits_are_those_of_more():
  wide = np.random.default_rng(1).normal(size=(300, 12)).astype(np.float32)
  kinds = [np.maximum(LABELS, 0).astype(kind) for kind in (np.uint8, np.int8, np.int32)]
  found = jax.jit(lambda given: [loss("tiled", labels)(given) for labels in kinds])((FEATURES, wide))
  assert found[0] == found[1] == found[2]


def test_a_weight_below_0_is_refused_and_makes_nan_while_tracing():
  weights = np.where(LABELS == 3, -1.0, 1.0)
  with pytest.raises(ValueError, match=r"expected weights finite and of at least 0, got -1.0 at \["):
    loss("dense", weights=weights)((FEATURES, VECTORS))
  assert np.isnan(jax.jit(lambda weights: loss("dense", weights=weights)((FEATURES, VECTORS)))(weights))


@pytest.mark.parametrize("weights", [None, random.uniform(0, 2, LABELS.shape) * (random.random(LABELS.shape) < 0.7)])
def test_tiled_values_and_gradients_are_those_of_the_dense_loss(weights):
  labels = np.maximum(LABELS, 0) if weights is not None else LABELS
  both = [
    jax.jit(jax.value_and_grad(loss(how, labels, weights=weights)))((FEATURES, VECTORS)) for how in ("dense", "tiled")
  ]
  close(*both)


def test_second_derivatives_are_those_of_the_dense_loss_backward_and_forward():

  def backward(how, given):
    return jax.grad(lambda x: sum(jnp.square(g).sum() for g in jax.grad(loss(how))(x)))(given)

  def forward(how, given):
    return jax.jvp(jax.grad(loss(how)), (given,), (jax.tree.map(jnp.cos, given),))[1]

  run = jax.jit(lambda *given: [[d(how, given) for d in (backward, forward)] for how in ("dense", "tiled")])
  close(*run(FEATURES, VECTORS))


def test_eight_devices_agree_with_one():
  one = jax.jit(jax.value_and_grad(loss("dense")))((FEATURES, VECTORS))
  run = jax.jit(jax.value_and_grad(lambda given, labels: loss("tiled", labels)(given)))
  with jax.set_mesh(make_mesh(8)):
    features, labels = shard_batch((FEATURES, LABELS))
    eight = run((features, VECTORS), labels)
  close(one, jax.device_get(eight))


def test_large_logits_lose_nothing():
  large = 30 * FEATURES, VECTORS
  run = jax.jit(lambda given: [loss(how)(given) for how in ("tiled", "dense")])
  close(*run(large), 1e-5)
  assert np.isfinite(run((1000 * FEATURES, VECTORS))[0])


def test_log_probabilities_are_those_that_the_loss_is_the_mean_of():
  run = lambda given: (linear_log_prob(*given, LABELS, block_size=TILE), loss("dense")(given))
  found, expected = map(np.asarray, jax.jit(run)((FEATURES, VECTORS)))
  assert found.shape == LABELS.shape and (found[LABELS < 0] == 0).all()
  close(-found.sum() / (LABELS >= 0).sum(), expected)


def memory(vocab_size, how):
  """Temporary bytes of a gradient, beside its arguments and itself."""
  shape = lambda *given: jax.ShapeDtypeStruct(given, jnp.float32)
  of = lambda given, labels: linear_cross_entropy(
    *given, labels, implementation=how, **({"block_size": 512} if how == "tiled" else {})
  )
  lowered = jax.jit(jax.grad(of)).lower(
    (shape(256, 64), shape(vocab_size, 64)), jax.ShapeDtypeStruct((256,), jnp.int32)
  )
  return lowered.compile().memory_analysis().temp_size_in_bytes


def test_memory_is_flat_in_the_vocabulary():
  assert memory(65536, "tiled") < 1.01 * memory(4096, "tiled") < 4 * 2**20
  assert memory(65536, "dense") > 64 * 2**20


def test_by_default_large_vocabularies_are_tiled():
  tokens, labels = jax.ShapeDtypeStruct((2048, 8), jnp.float32), jax.ShapeDtypeStruct((2048,), jnp.int32)
  embedding = jax.ShapeDtypeStruct((50000, 8), jnp.float32)
  text = jax.jit(linear_cross_entropy).lower(tokens, embedding, labels).as_text()
  assert "2048x50000" not in text and "2048x2048x" in text.replace("tensor<2048x2048xf32>", "2048x2048x")


def test_without_a_token_the_loss_is_0_and_so_is_its_gradient():
  nothing = np.full(LABELS.shape, -1)
  for how in ("dense", "tiled"):
    value, gradient = jax.jit(jax.value_and_grad(loss(how, nothing)))((FEATURES, VECTORS))
    assert value == 0 and all((np.asarray(g) == 0).all() for g in gradient)


def test_bfloat16_features_are_summed_in_32_bits():
  given = jnp.asarray(FEATURES, jnp.bfloat16), VECTORS
  both = [jax.jit(jax.value_and_grad(loss(how)))(given) for how in ("dense", "tiled")]
  close(both[0][0], both[1][0], 1e-5)
  assert both[1][0].dtype == jnp.float32 and both[1][1][0].dtype == jnp.bfloat16
  close(both[0][1][1], both[1][1][1], 1e-3)


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"labels": LABELS[:, 1:]}, r"shapes \[16, 7, 12\], \[37, 12\], \[16, 6\]"),
    ({"embedding": VECTORS[:, 1:]}, r"\[37, 11\]"),
    ({"labels": LABELS * 1.0}, r"labels to be integers \[...\], got float64 \[16, 7\]"),
    ({"implementation": "sparse"}, "implementation to be one of 'dense', 'tiled', got 'sparse'"),
    ({"block_size": 0}, "block_size to be a whole number of at least 1, got 0"),
    ({"weights": np.ones(3)}, r"one weight per label, \[16, 7\], got \[3\]"),
  ],
)
def test_what_does_not_fit_is_refused(change, message):
  given = {"features": FEATURES, "embedding": VECTORS, "labels": LABELS, "implementation": "tiled"} | change
  with pytest.raises(ValueError, match=message):
    linear_cross_entropy(given.pop("features"), given.pop("embedding"), given.pop("labels"), **given)
