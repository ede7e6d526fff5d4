"""Laws that every learner meets."""

import functools

import chex
import jax
import numpy as np
import params_by_numpy
import pytest
from low_precision import TOLERANCES, at
from table_of_learners import LEARNERS, MESH_PATHS, VARIANTS, episodes, image_episodes

from metajax.mesh import make_mesh, shard_batch

FAST = [name for name in LEARNERS if name not in VARIANTS]


def over(names, fast=FAST):
  """Those not among the fast ones are slow; all tests of a learner run in one worker, which compiles it once."""
  marks = lambda name: [] if name in fast else [pytest.mark.slow]
  return pytest.mark.parametrize("name", [pytest.param(name, marks=marks(name)) for name in names])


rows = over(LEARNERS)
mesh_paths = over(LEARNERS, fast=MESH_PATHS)
in_halves = over(LEARNERS, fast=("maml", "supervised", "prototypical, batch norm", "clip", "simclr, batch norm", "gpt"))
orderless = over(name for name, row in LEARNERS.items() if not row.draws)
classifiers = over(name for name, row in LEARNERS.items() if row.classifies)
episodic_classifiers = over(name for name, row in LEARNERS.items() if row.classifies and row.episodic)
# Those that adapt as maml does weigh rows as it does.
ALIKE = ("imaml", "meta-sgd", "cavia", "anil", "maml, in groups")
without_batch_statistics = over(
  (name for name, row in LEARNERS.items() if row.classifies and not row.batch_norm and not row.draws),
  fast=[name for name in FAST if name not in ALIKE],
)


class Case:
  """A learner of the table, initialized, with its loss and gradient compiled once for all laws."""

  def __init__(self, name):
    self.row = LEARNERS[name]
    self.learner, self.batch, self.key = self.row.learner, self.row.batch(0), jax.random.key(1)
    self.params, self.state = params_by_numpy.start(self.learner.init, self.batch)
    self.value_and_grad = jax.value_and_grad(self.learner.loss, has_aux=True)
    self.traces = 0
    self.compiled = jax.jit(self.traced)
    self.compiled_use = jax.jit(self.use)

  def traced(self, *given):
    self.traces += 1
    return self.value_and_grad(*given)

  def use(self, params, state, support, inputs):
    """Both ways to use what was learned, of one program."""
    return self.learner.predict(params, state, support, inputs), self.learner.embed(params, state, inputs)

  def __call__(self, batch=None, key=None):
    batch, key = self.batch if batch is None else batch, self.key if key is None else key
    return self.compiled(self.params, self.state, batch, key)

  @functools.cached_property
  def tasks(self):
    """Some that it is used on: where it can, of more ways than it was trained at."""
    if self.row.any_ways:
      return episodes(1, ways=7, shots=2, queries=1, tasks=2)
    return (
      self.batch if self.row.episodic else (self.row.tasks or (image_episodes if self.row.batch_norm else episodes))(0)
    )

  def task(self, index=0):
    return jax.tree.map(lambda x: x[index], self.tasks)

  def predict(self, support, inputs):
    return self.compiled_use(self.params, self.state, support, inputs)[0]


@pytest.fixture
def case(name):
  return made(name)


@functools.lru_cache(maxsize=2)  # the tests of a learner run one after the other
def made(name):
  return Case(name)


def close(first, second, tolerance=2e-5):
  chex.assert_trees_all_close(first, second, rtol=tolerance, atol=tolerance)


def padded(examples, rows, axis):
  """Adds rows without a label, whose inputs are anything."""

  def grow(x, fill):
    shape = (*x.shape[:axis], rows, *x.shape[axis + 1 :])
    return np.concatenate([x, np.full(shape, fill, x.dtype)], axis)

  inputs = jax.tree.map(lambda x: grow(x, 3.0), examples.inputs)
  return examples._replace(inputs=inputs, labels=grow(examples.labels, 0))


def finite(tree):
  """By numpy, which compiles nothing."""
  return all(np.isfinite(np.asarray(leaf, np.float64)).all() for leaf in jax.tree.leaves(tree))


@rows
def test_loss_is_a_finite_scalar_with_finite_metrics(case):
  (loss, (_, metrics)), _ = case()
  assert loss.shape == () and finite(loss)
  for name, value in metrics.items():
    assert value.shape == () and finite(value), name


@rows
def test_gradient_is_finite_and_shaped_like_the_parameters(case):
  _, gradient = case()
  chex.assert_trees_all_equal_shapes_and_dtypes(gradient, case.params)
  assert finite(gradient) and any(np.any(np.asarray(leaf) != 0) for leaf in jax.tree.leaves(gradient))


@rows
def test_state_keeps_its_structure_shapes_and_types(case):
  (_, (state, _)), _ = case()
  chex.assert_trees_all_equal_shapes_and_dtypes(state, case.state)


@mesh_paths
def test_loss_is_the_same_without_jit(case):
  loss, _ = case.learner.loss(case.params, case.state, case.batch, case.key)
  close(loss, case()[0][0])


@mesh_paths
def test_eight_devices_agree_with_one(case):
  one = case()
  with jax.set_mesh(make_mesh(8)):
    eight = jax.jit(case.value_and_grad)(case.params, case.state, shard_batch(case.batch), case.key)
  close(jax.device_get(one), jax.device_get(eight))


@in_halves
def test_products_in_bfloat16_leave_the_loss_its_first_digits_and_gradients_finite(case):
  (exact, _), _ = case()
  (loss, _), gradient = jax.jit(at("bfloat16", case.compiled))(case.params, case.state, case.batch, case.key)
  close(exact, loss, TOLERANCES["bfloat16"])
  assert finite(gradient)


@rows
def test_same_key_gives_the_same_result(case):
  chex.assert_trees_all_equal(case(), case())


@rows
def test_many_calls_are_traced_once(case):
  case()
  traces = case.traces
  for seed in range(3):
    case(case.row.batch(seed), jax.random.key(seed))
  assert case.traces == traces


@orderless
def test_order_of_tasks_does_not_matter(case):
  flipped = jax.tree.map(lambda x: x[::-1], case.batch)
  close(case(), case(flipped))


@over(name for name, row in LEARNERS.items() if row.episodic and not row.draws and not row.ordered)
def test_order_of_support_and_query_rows_does_not_matter(case):
  flipped = jax.tree.map(lambda x: x[:, ::-1], case.batch)
  close(case(), case(flipped), 1e-4)


@without_batch_statistics
def test_padded_rows_change_nothing(case):
  if case.row.episodic:
    batch = case.batch._replace(support=padded(case.batch.support, 2, 1), query=padded(case.batch.query, 3, 1))
  else:
    batch = padded(case.batch, 8, 0)
  close(case(), case(batch))


@episodic_classifiers
def test_padded_tasks_change_nothing(case):
  empty = jax.tree.map(np.array, case.batch)
  empty.query.labels[4:] = 0
  if case.row.draws:
    four = jax.tree.map(lambda x: x[:4], case.batch)
    expected = jax.jit(case.value_and_grad)(case.params, case.state, four, case.key)
  else:  # the mean over four tasks is that over each of them twice, which is compiled already
    expected = case(jax.tree.map(lambda x: np.concatenate([x[:4], x[:4]]), case.batch))
  close(case(empty), expected)


@rows
def test_prediction_has_a_row_a_query_and_a_column_a_label(case):
  task = case.task()
  prediction = jax.eval_shape(case.predict, task.support, task.query.inputs)
  assert prediction.shape == task.query.labels.shape


@rows
def test_prediction_learns_from_the_support(case):
  """Its own support rows are predicted better than another task's labels would be."""
  task = case.task()
  other = case.task(1).support
  right, wrong = case.predict(task.support, task.query.inputs), case.predict(other, task.query.inputs)
  assert not np.allclose(right, wrong)


@over(name for name, row in LEARNERS.items() if row.any_ways)
def test_classes_are_alike_any_number_of_them_can_be_told_apart_and_padded_support_is_not_seen(case):
  support, query = case.task()
  order = np.random.default_rng(0).permutation(7)
  found, turned = (
    case.predict(support._replace(labels=labels), query.inputs) for labels in (support.labels, support.labels[:, order])
  )
  assert found.shape == (7, 7)
  close(found[:, order], turned, 1e-4)
  close(found, case.predict(padded(support, 2, 0), query.inputs), 1e-4)


@rows
def test_embedding_has_a_row_an_input(case):
  support, query = case.task()
  _, embedding = case.compiled_use(case.params, case.state, support, query.inputs)
  assert embedding.shape == (len(query.inputs), case.row.width) and finite(embedding)


@classifiers
def test_labels_that_are_not_one_hot_are_refused_at_init(case):
  wrong = jax.tree.map(np.array, case.batch)
  labels = wrong.support.labels if case.row.episodic else wrong.labels
  labels[..., 1, :2], labels[..., 1, 2:] = 0.5, 0
  with pytest.raises(ValueError, match=r"one-hot .*got the row \[0.5, 0.5"):
    case.learner.init(case.key, wrong)
  as_integers = lambda examples: examples._replace(labels=examples.labels.argmax(-1))
  integers = case.batch._replace(query=as_integers(case.batch.query)) if case.row.episodic else as_integers(case.batch)
  with pytest.raises(ValueError, match="one-hot"):
    case.learner.init(case.key, integers)
