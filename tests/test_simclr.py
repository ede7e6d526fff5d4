"""SimCLR: the loss of its views, what it keeps of the head, and one step that no number of devices changes."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from params_by_numpy import start
from table_of_learners import convolution, encoder, labeled, shaken

from metajax import Examples, Pair, fit
from metajax.compose import with_pretrained_params
from metajax.learners import simclr, supervised, supervised_contrastive
from metajax.learners.simclr import two_views
from metajax.losses.contrastive import LARGEST_LOG_SCALE, START_LOG_SCALE
from metajax.mesh import make_mesh, shard_batch
from metajax.networks import mlp, projection_head
from metajax.train import keep_params_below

head = mlp((7,), 4, jax.nn.tanh)
learner = simclr(encoder, head, shaken, temperature=0.3)


@pytest.fixture(scope="module")
def made():
  return start(learner.init, labeled(0).inputs)


def reference(embedded, temperature, positive, left_out=lambda i: []):
  """Equation 1 of arXiv:2002.05709, one row at a time; `positive(i)` are the rows that a row is to be found by.

  The sum leaves out `left_out(i)`: the positive in equation 6 of arXiv:2110.06848.
  """
  unit = [row / np.linalg.norm(row) for row in np.float64(embedded)]
  losses = []
  for i, one in enumerate(unit):
    logits = {j: one @ other / temperature for j, other in enumerate(unit) if j != i}
    total = np.log(sum(np.exp(x) for j, x in logits.items() if j not in left_out(i)))
    losses.append(np.mean([total - logits[j] for j in positive(i)]))
  return np.mean(losses)


def views_of(key, inputs):
  """What the learner's loss sees, as its docstring has it: row i with its own key, two of them."""
  view_key, _ = jax.random.split(key)
  of_row = lambda i, row: jnp.stack([shaken(own, row) for own in jax.random.split(jax.random.fold_in(view_key, i))])
  return jax.vmap(of_row)(np.arange(len(inputs)), inputs).reshape(-1, *inputs.shape[1:])


def embedded(params, views):
  features = encoder.apply(params["encoder"], {}, views, train=True)[0]
  return head.apply(params["head"], {}, features, train=True)[0]


def test_the_loss_is_the_papers_on_two_views_of_each_image(made):
  inputs = labeled(1).inputs

  @jax.jit
  def run(made, key):
    apart = simclr(encoder, head, shaken, temperature=0.3, decoupled=True).loss(*made, inputs, key)[0]
    return learner.loss(*made, inputs, key), apart, embedded(made[0], views_of(key, inputs))

  (loss, (_, metrics)), apart, rows = run(made, jax.random.key(1))
  rows = np.float64(rows)
  np.testing.assert_allclose(loss, reference(rows, 0.3, lambda i: [i ^ 1]), rtol=1e-5)
  np.testing.assert_allclose(apart, reference(rows, 0.3, lambda i: [i ^ 1], lambda i: [i ^ 1]), rtol=1e-5)
  unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
  np.testing.assert_allclose(metrics["alignment"], np.mean((unit[::2] * unit[1::2]).sum(1)), rtol=1e-5)


def test_supervised_contrastive_finds_all_views_of_a_class():
  with_labels = supervised_contrastive(encoder, head, shaken, temperature=0.3)
  batch = labeled(1)
  params, state = start(with_labels.init, batch)

  @jax.jit
  def run(params, key):
    return with_labels.loss(params, state, batch, key)[0], embedded(params, views_of(key, batch.inputs))

  loss, rows = run(params, jax.random.key(1))
  classes = np.repeat(batch.labels.argmax(-1), 2)
  same = lambda i: [j for j in np.flatnonzero(classes == classes[i]) if j != i]
  np.testing.assert_allclose(loss, reference(rows, 0.3, same), rtol=1e-5)


def test_labels_are_not_looked_at_but_padding_is(made):
  batch, key = labeled(1), jax.random.key(1)
  grow = lambda x, fill: np.concatenate([x, np.full((3, *x.shape[1:]), fill, x.dtype)])
  padded = Examples(grow(batch.inputs, 5.0), grow(batch.labels, 0))
  run = jax.jit(lambda made, *batches: [learner.loss(*made, b, key)[0] for b in batches])
  plain, labels, with_padding = run(made, batch.inputs, batch, padded)
  assert plain == labels
  np.testing.assert_allclose(with_padding, plain, rtol=1e-5)


def test_embed_is_before_the_head_or_after_it(made):
  inputs = labeled(2).inputs

  @jax.jit
  def run(made):
    features = encoder.apply(made[0]["encoder"], {}, inputs, train=False)[0]
    after = simclr(encoder, head, shaken, embedding="head").embed(*made, inputs)
    return features, learner.embed(*made, inputs), after, head.apply(made[0]["head"], {}, features, train=False)[0]

  features, before, after, projected = run(made)
  np.testing.assert_array_equal(before, features)
  np.testing.assert_allclose(after, projected / np.linalg.norm(projected, axis=1, keepdims=True), rtol=1e-5)


def test_a_views_key_is_of_its_row_alone():
  inputs = labeled(0).inputs
  views, of_five = jax.jit(lambda key: [two_views(shaken, key, x) for x in (inputs, inputs[:5])])(jax.random.key(0))
  np.testing.assert_allclose(of_five, np.asarray(views)[:10], rtol=1e-6)
  assert len({row.tobytes() for row in np.asarray(views)}) == 32


def test_a_pair_of_crops_gives_one_view_each():
  first, second = labeled(0).inputs, 1 - labeled(0).inputs
  views = jax.jit(lambda key: two_views(lambda key, x: x, key, Pair(first, second)))(jax.random.key(0))
  np.testing.assert_array_equal(views[0::2], first)
  np.testing.assert_array_equal(views[1::2], second)
  learner, key = simclr(encoder, head, lambda key, x: x), jax.random.key(0)
  params, state = learner.init(key, Pair(first, second))
  alike, apart = (jax.jit(learner.loss)(params, state, Pair(first, x), key)[0] for x in (first, second))
  assert alike < apart
  with pytest.raises(ValueError, match="expected finite values, got NaN"):
    learner.init(key, Pair(first, first * np.nan))


def test_a_learned_temperature_starts_at_7_hundredths_and_stays_above_1():
  learned = simclr(encoder, head, shaken, temperature="learned")
  optimizer = optax.chain(optax.sgd(1e4), keep_params_below(LARGEST_LOG_SCALE, "log_scale"))

  @jax.jit
  def run(key, inputs):
    params, state = learned.init(key, inputs)
    loss = lambda p: learned.loss(p, state, inputs, key)
    gradient, (_, metrics) = jax.grad(loss, has_aux=True)(params)
    updates, _ = optimizer.update(gradient, optimizer.init(params), params)
    return params, metrics, gradient, optax.apply_updates(params, updates)

  params, metrics, gradient, after = run(jax.random.key(0), labeled(0).inputs)
  assert float(params["log_scale"]) == pytest.approx(START_LOG_SCALE)
  assert metrics["temperature"] == pytest.approx(0.07)
  assert float(gradient["log_scale"]) != 0
  assert float(after["log_scale"]) <= LARGEST_LOG_SCALE + 1e-6


def test_one_step_on_eight_devices_is_that_on_one_batch_statistics_included():
  photos = np.random.default_rng(0).random((16, 8, 8, 3)).astype(np.float32)
  convolutional = simclr(convolution, projection_head(8, 8), shaken)
  params, state = jax.jit(convolutional.init)(jax.random.key(0), photos)
  step = jax.value_and_grad(convolutional.loss, has_aux=True)
  (loss, (after, _)), gradient = jax.device_get(jax.jit(step)(params, state, photos, jax.random.key(1)))
  with jax.set_mesh(make_mesh(8)):
    found = jax.jit(step)(params, state, shard_batch(photos), jax.random.key(1))
  (eight, (eight_after, _)), eight_gradient = jax.device_get(found)
  np.testing.assert_allclose(eight, loss, rtol=1e-6)
  size = max(np.abs(x).max() for x in jax.tree.leaves(gradient))
  jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-5 * size), eight_gradient, gradient)
  jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6), eight_after, after)
  moved = [np.abs(x - y).max() for x, y in zip(jax.tree.leaves(after), jax.tree.leaves(state), strict=True)]
  assert min(moved) > 0


def test_pretraining_brings_views_together_and_fine_tuning_starts_from_it(made):
  batches = lambda start=0, shard=(0, 1): (labeled(i).inputs for i in range(start, 10**6))
  trained = fit(learner, optax.adam(1e-2), batches, steps=40)
  loss = jax.jit(lambda params: learner.loss(params, made[1], labeled(0).inputs, jax.random.key(5))[0])
  losses = [loss(params) for params in (made[0], trained.params)]
  assert losses[1] < losses[0] - 0.2
  tuned = supervised(with_pretrained_params(encoder, trained.params["encoder"], {}))
  params, _ = jax.jit(tuned.init)(jax.random.key(0), labeled(0))
  jax.tree.map(np.testing.assert_array_equal, params["encoder"], trained.params["encoder"])
  with pytest.raises(ValueError, match="expected params of the network's shapes"):
    supervised(with_pretrained_params(encoder, trained.params["head"])).init(jax.random.key(0), labeled(0))


PHOTOS = np.full((4, 8, 8, 3), 0.5, np.float32)


@pytest.mark.parametrize(
  ("batch", "said"),
  [
    (PHOTOS[:1], "at least 2 images in a batch, each other's negatives, got 1"),
    (PHOTOS[:0], "at least 2 images"),
    (PHOTOS * np.nan, "expected finite values, got NaN"),
    (PHOTOS * 4, "values from 0 to 1, got values from 2 to 2"),
    (PHOTOS - 1, "values from 0 to 1, got values from -0.5 to -0.5"),
    ((PHOTOS * 255).astype(np.uint8), "images from 0 to 1, got uint8 .*images_to_float"),
    ({"image": PHOTOS}, "got a dict"),
  ],
)
def test_a_batch_that_cannot_be_contrasted_is_refused_at_init(batch, said):
  with pytest.raises(ValueError, match=said):
    simclr(encoder, head, shaken).init(jax.random.key(0), batch)


@pytest.mark.parametrize("arguments", [{"temperature": 0.0}, {"temperature": "cold"}, {"embedding": "both"}])
def test_arguments_that_are_none_of_the_choices_are_refused(arguments):
  with pytest.raises(ValueError, match="expected"):
    simclr(encoder, head, shaken, **arguments)
