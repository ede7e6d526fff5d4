"""Few-shot scores: those of a plain loop over tasks, each counted once, with the interval of their mean."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from table_of_learners import episodes, regressions

from metajax import Examples, Learner, few_shot_accuracy, gradient_steps, make_mesh
from metajax.adapt import identity
from metajax.evaluate import Score, adaptation_curve, few_shot_mse, mean_and_ci, mean_over_seeds, paired_difference
from metajax.learners import maml, prototypical
from metajax.networks import mlp
from metajax.predictors import nearest_centroid

TASKS = 12


def embed(params, state, inputs):
  return inputs * params


learner = Learner(None, None, embed, nearest_centroid(embed))
PARAMS = np.array([1, 0, 0, 0, 0, 0], np.float32)  # sees one of six features, so that some answers are wrong


def batches(start=0, shard=(0, 1), size=5):
  return (episodes(step, tasks=size) for step in itertools.count(start))


def by_hand(batches, tasks):
  """The accuracy of each task in percent, one query at a time."""
  found = []
  for batch in batches():
    for task in range(len(batch.query.labels)):
      support, query = jax.tree.map(lambda x, task=task: np.float64(x[task]), batch)
      centroids = [support.inputs[support.labels[:, way] == 1].mean(0) for way in range(3)]
      right = [
        np.argmin([np.sum(((x - centroid) * PARAMS) ** 2) for centroid in centroids]) == label.argmax()
        for x, label in zip(query.inputs, query.labels, strict=True)
      ]
      found.append(100 * np.mean(right))
      if len(found) == tasks:
        return found


def score(tasks=TASKS, batches=batches, learner=learner, **settings):
  return few_shot_accuracy(learner, PARAMS, {}, batches, tasks, **settings)


def test_accuracy_is_that_of_a_loop_over_tasks_and_queries():
  expected = by_hand(batches, TASKS)
  found = score()
  assert 40 < found.mean < 95 and len(set(expected)) > 2
  np.testing.assert_allclose(found.tasks, expected, rtol=1e-6)
  np.testing.assert_allclose(found.mean, np.mean(expected), rtol=1e-6)
  assert found.tasks.dtype == np.float64


@pytest.mark.parametrize("size", [1, 5, 12])
def test_each_task_counts_once_whatever_the_batch_and_the_devices(size):
  sized = lambda: batches(size=size)
  with jax.set_mesh(make_mesh(8)):
    found = score(batches=sized)
  np.testing.assert_allclose(found.tasks, by_hand(sized, TASKS), rtol=1e-6)


def test_groups_of_tasks_change_nothing():
  np.testing.assert_array_equal(score(chunk_size=5).tasks, score().tasks)


def test_two_calls_are_identical():
  first, second = score(), score()
  assert first[:2] == second[:2]
  np.testing.assert_array_equal(first.tasks, second.tasks)


def test_interval_is_that_of_the_mean_over_tasks():
  scores = np.random.default_rng(0).normal(50, 10, 400)
  found = mean_and_ci(scores)
  variance = sum((x - sum(scores) / 400) ** 2 for x in scores) / 399
  np.testing.assert_allclose(found.ci95, 1.965927 * (variance / 400) ** 0.5, rtol=1e-6)  # t, 399 degrees of freedom
  np.testing.assert_allclose(found.mean, sum(scores) / 400)
  assert 0.8 < found.ci95 < 1.2
  assert str(Score(97.126, 0.4, scores)) == "97.13 ± 0.40"


def test_no_more_batches_are_drawn_than_there_are_tasks():
  drawn = []
  some = lambda: (drawn.append(batch) or batch for batch in batches())
  score(10, some)
  assert len(drawn) == 2


@pytest.mark.parametrize("which", ["support", "query"])
def test_labels_that_are_not_one_hot_are_refused_in_any_batch(which):
  def spoiled():
    yield episodes(0, tasks=5)
    batch = episodes(1, tasks=5)
    getattr(batch, which).labels[3, 0] = [0, 0.5, 0.5]
    yield batch

  with pytest.raises(ValueError, match=r"one-hot .*got the row \[0.0, 0.5, 0.5\]"):
    score(10, spoiled)


def test_one_task_has_no_interval_and_is_refused_before_a_batch_is_drawn():
  def never():
    raise AssertionError("drawn")

  for measure in (few_shot_accuracy, few_shot_mse):
    with pytest.raises(ValueError, match="at least 2 tasks, as an interval requires, got 1"):
      measure(learner, PARAMS, {}, never, 1)


def test_batches_that_end_early_are_refused():
  with pytest.raises(ValueError, match="expected 12 tasks, but the batches ended after 10"):
    score(12, lambda: itertools.islice(batches(), 2))


def test_predictions_of_other_ways_than_the_labels_are_refused():
  wrong = learner._replace(predict=lambda params, state, support, inputs: jnp.zeros((len(inputs), 4)))
  with pytest.raises(ValueError, match=r"expected logits \[6, 3\] for labels of 3 ways, got \[6, 4\]"):
    score(learner=wrong)


def test_error_is_the_mean_squared_error_of_each_task():
  def predict(params, state, support: Examples, inputs):
    return params * inputs + support.labels.mean()

  found = few_shot_mse(Learner(None, None, None, predict), 0.5, {}, lambda: map(regressions, itertools.count()), 10)
  expected = []
  for task in range(10):
    support, query = jax.tree.map(lambda x, task=task: np.float64(x[task % 8]), regressions(task // 8))
    expected.append(np.mean((0.5 * query.inputs + support.labels.mean() - query.labels) ** 2))
  np.testing.assert_allclose(found.tasks, expected, rtol=1e-5)
  np.testing.assert_allclose(found.mean, np.mean(expected), rtol=1e-5)


def test_predictions_that_are_not_finite_are_no_score():
  unreadable = maml(mlp((4,), 3), gradient_steps(optax.sgd(0.1), 1))
  params, state = unreadable.init(jax.random.key(0), episodes(0))
  params = jax.tree.map(lambda x: x * 1e30, params)
  with pytest.raises(FloatingPointError, match="not finite, first in test task 0"):
    few_shot_accuracy(unreadable, params, state, lambda: iter([episodes(0)]), 8)


def test_a_task_without_a_labeled_query_is_refused():
  empty = jax.tree.map(np.array, episodes(0))
  empty.query.labels[5:] = 0
  with pytest.raises(ValueError, match="labeled query in every task, got none in task 5"):
    few_shot_accuracy(prototypical(mlp((4,), 3)), {}, {}, lambda: iter([empty]), 8)


@pytest.mark.parametrize(("tasks", "queries"), [(10, 75), (200, 75), (1000, 25)])
def test_intervals_hold_the_truth_as_often_as_they_say(tasks, queries):
  """Accuracies as they are: each task with a difficulty of its own, and a finite number of queries."""
  random = np.random.default_rng(0)
  of_tasks = random.beta(12, 3, size=(4000, tasks))
  scores = 100 * random.binomial(queries, of_tasks) / queries
  found = [mean_and_ci(row) for row in scores]
  holds = np.mean([abs(one.mean - 80) <= one.ci95 for one in found])
  assert 0.93 <= holds <= 0.97


def test_intervals_over_seeds_hold_the_truth_as_often_as_they_say():
  random = np.random.default_rng(0)
  found = [mean_over_seeds([Score(mean, 0, None) for mean in random.normal(90, 2, 3)]) for _ in range(4000)]
  assert 0.93 <= np.mean([abs(one.mean - 90) <= one.ci95 for one in found]) <= 0.97


def test_a_paired_difference_is_surer_than_the_means():
  random = np.random.default_rng(0)
  tasks = random.normal(80, 10, 500)
  first, second = (mean_and_ci(tasks + random.normal(shift, 1, 500)) for shift in (1, 0))
  found = paired_difference(first, second)
  assert found.mean == pytest.approx(first.mean - second.mean) and found.ci95 < 0.2 * first.ci95
  assert found.mean > found.ci95
  np.testing.assert_allclose(paired_difference(second, first).mean, -found.mean)


def test_scores_of_other_tasks_are_not_compared():
  scores = np.random.default_rng(0).normal(size=12)
  with pytest.raises(ValueError, match="the same tasks, got 12 and 10 tasks"):
    paired_difference(mean_and_ci(scores), mean_and_ci(scores[:10]))


def test_an_adaptation_curve_has_the_accuracy_after_each_number_of_steps():
  network = mlp((8,), 3)
  after = lambda n: maml(network, gradient_steps(optax.sgd(0.5), n) if n else identity)
  params, state = jax.jit(after(1).init)(jax.random.key(0), episodes(0))
  curve = adaptation_curve(after, params, state, batches, (0, 5), TASKS)
  expected = [few_shot_accuracy(after(n), params, state, batches, TASKS) for n in (0, 5)]
  for point, alone in zip(curve, expected, strict=True):
    np.testing.assert_array_equal(point.tasks, alone.tasks)
  assert curve[1].mean > curve[0].mean + 10
  task = jax.tree.map(lambda x: x[0], episodes(0))
  as_it_is = lambda params: network.apply(params, state, task.query.inputs, train=True)[0]
  found = lambda params: after(0).predict(params, state, task.support, task.query.inputs)
  np.testing.assert_allclose(*jax.jit(lambda params: (found(params), as_it_is(params)))(params), rtol=1e-6)
