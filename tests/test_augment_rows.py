"""Views of a batch: a key of its own for each image, and the same on any number of devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from params_by_numpy import start
from table_of_learners import encoder, episodes, labeled, labeled_pairs, shaken, triplets

from metajax.augment import augment_batch, augment_examples
from metajax.learners import preprocessed, prototypical, siamese, with_augmentation
from metajax.mesh import make_mesh, shard_batch


def draw(key, x):
  return jnp.full(x.shape, jax.random.uniform(key))


def test_every_image_of_any_batch_has_a_view_of_its_own_and_labels_stay():
  batches = (episodes(0), labeled(0), labeled_pairs(0), triplets(0), labeled(0).inputs)
  run = jax.jit(lambda key, batches: [augment_examples(draw, key, batch) for batch in batches])
  for batch, found in zip(batches, jax.device_get(run(jax.random.key(0), batches)), strict=True):
    assert jax.tree.structure(found) == jax.tree.structure(batch)
    leaves = list(zip(*map(jax.tree.leaves, (batch, found)), strict=True))
    images = [(a, np.asarray(b)[..., 0].ravel()) for a, b in leaves if a.shape[-1] == 6]
    assert len(np.unique(np.concatenate([b for _, b in images]))) == sum(a.size // 6 for a, _ in images)
    for before, after in leaves:
      if before.shape[-1] != 6:
        np.testing.assert_array_equal(before, after)


def test_a_row_has_the_key_of_its_number_on_any_number_of_devices():
  inputs = labeled(0).inputs
  one = jax.jit(lambda i, x: draw(jax.random.fold_in(jax.random.key(0), i), x))
  alone = np.stack([one(i, x) for i, x in enumerate(inputs)])
  of_rows = jax.jit(lambda x: augment_batch(draw, jax.random.key(0), x))
  np.testing.assert_array_equal(of_rows(inputs), alone)
  with jax.set_mesh(make_mesh(8)):
    np.testing.assert_array_equal(of_rows(shard_batch(inputs)), alone)


def test_an_augmented_learner_sees_views_in_training_and_images_as_they_are_otherwise():
  plain = prototypical(encoder)
  learner, batch, key = with_augmentation(plain, shaken), episodes(0), jax.random.key(1)
  made = start(learner.init, batch)

  @jax.jit
  def run(made, batch, key):
    view_key, key_of_loss = jax.random.split(key)
    expected = plain.loss(*made, augment_examples(shaken, view_key, batch), key_of_loss)[0]
    return learner.loss(*made, batch, key)[0], expected

  found, expected = run(made, batch, key)
  np.testing.assert_allclose(found, expected, rtol=1e-6)
  assert learner.predict is plain.predict and learner.embed is plain.embed


@pytest.mark.parametrize("plain, batch", [(prototypical(encoder), episodes(0)), (siamese(encoder), labeled_pairs(0))])
def test_a_preprocessed_learner_sees_prepared_images_everywhere(plain, batch):
  """In training, in `embed` and in `predict`, whatever its batches are."""
  prepare = lambda image: 2 * image + jnp.arange(image.size, dtype=image.dtype).reshape(image.shape)
  learner, key = preprocessed(plain, prepare), jax.random.key(1)
  by_hand = jax.tree.map(
    lambda x: x if x.shape[-1] < 6 else 2 * x + np.arange(6, dtype=np.float32), batch
  )  # labels stay
  params, state = start(plain.init, batch)
  of = jax.jit(lambda learner: learner.loss(params, state, batch, key)[0], static_argnums=0)
  wanted = jax.jit(lambda: plain.loss(params, state, by_hand, key)[0])()
  np.testing.assert_allclose(of(learner), wanted, rtol=1e-6)
  assert abs(of(plain) - wanted) > 1e-3
  (support, query), prepared = (jax.tree.map(lambda x: x[0], tasks) for tasks in (episodes(1), _prepared(episodes(1))))
  found = jax.jit(learner.predict)(params, state, support, query.inputs)
  np.testing.assert_allclose(found, jax.jit(plain.predict)(params, state, prepared[0], prepared[1].inputs), rtol=1e-5)
  np.testing.assert_allclose(
    learner.embed(params, state, query.inputs), plain.embed(params, state, prepared[1].inputs), rtol=1e-6
  )


def _prepared(tasks):
  add = lambda part: part._replace(inputs=2 * part.inputs + np.arange(part.inputs.shape[-1], dtype=np.float32))
  return tasks._replace(support=add(tasks.support), query=add(tasks.query))
