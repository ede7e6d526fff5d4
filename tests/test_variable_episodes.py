"""Episodes of variable ways and shots: drawn as the paper says, and the same from any start and on any hosts."""

import itertools
import math

import jax
import numpy as np
import pytest
from scipy import stats

from metajax.data import LazyImages, from_arrays, variable_episodes
from metajax.evaluate import few_shot_accuracy
from metajax.types import Learner

LIMITS = {"min_ways": 3, "max_ways": 9, "max_queries": 6, "max_support": 60, "max_support_per_class": 12}
COUNTS = (
  (4, 40, 9, 17, 30, 12, 8, 6, 25, 5, 14, 22),  # images of each class, of more classes than a task has at most
  (3, 9, 5, 150, 7),  # of fewer, and one of which is large
)


def source_of(counts, number=0):
  """Images whose pixels say of which source, class and number they are; none is black."""
  labels = np.repeat(np.arange(len(counts)), counts)
  numbers = np.concatenate([np.arange(count) for count in counts])
  pixels = np.stack([labels, numbers, 0 * labels + number, 0 * labels + 255], 1).astype(np.uint8)
  shuffle = np.random.default_rng(0).permutation(len(labels))
  images = pixels[shuffle].reshape(-1, 2, 2, 1)
  return from_arrays(images, labels[shuffle])


SOURCES = [source_of(counts, number) for number, counts in enumerate(COUNTS)]


def slow_sizes(random):
  """A task of section 3.2 and its appendix, line by line: its source, and query and support images of each class."""
  number = random.integers(2)
  counts = COUNTS[number]
  ways = random.integers(LIMITS["min_ways"], min(LIMITS["max_ways"], len(counts)) + 1)
  images = [counts[c] for c in random.permutation(len(counts))[:ways]]
  q = min(LIMITS["max_queries"], min(math.floor(0.5 * im) for im in images))
  beta = 1 - random.uniform()
  support = sum(math.ceil(beta * min(LIMITS["max_support_per_class"], im - q)) for im in images)
  support = min(LIMITS["max_support"], support)
  alpha = random.uniform(math.log(0.5), math.log(2), ways)
  whole = sum(math.exp(a) * im for a, im in zip(alpha, images, strict=True))
  shares = [math.exp(a) * im / whole for a, im in zip(alpha, images, strict=True)]
  shots = [min(math.floor(r * (support - ways)) + 1, im - q) for r, im in zip(shares, images, strict=True)]
  return number, images, q, shots


def drawn_sizes(batch):
  """The same of the tasks of a batch, read off their pixels and labels."""
  pixels = batch.query.inputs.values[:, 0, :, :, 0].astype(int)
  classes = batch.query.inputs.values[..., 0, 0, 0].astype(int)
  for task in range(len(pixels)):
    number = pixels[task, 1, 0]
    ways = int(batch.query.labels[task].any(0).sum())
    queries, shots = (part.labels[task].sum(0)[:ways].astype(int) for part in (batch.query, batch.support))
    assert len(set(queries)) == 1
    of_way = classes[task][np.cumsum(queries) - 1]
    yield number, [COUNTS[number][c] for c in of_way], queries[0], shots.tolist()


STATISTICS = {
  "ways": lambda images, q, shots: len(shots),
  "queries of a class": lambda images, q, shots: q,
  "support images": lambda images, q, shots: sum(shots),
  "largest shots": lambda images, q, shots: max(shots),
  "smallest shots": lambda images, q, shots: min(shots),
  "imbalance": lambda images, q, shots: max(shots) / min(shots),
  "shots of the largest class": lambda images, q, shots: shots[int(np.argmax(images))],
  "shots of the smallest class": lambda images, q, shots: shots[int(np.argmin(images))],
  "images of the smallest class": lambda images, q, shots: min(images),
  "images of the first class": lambda images, q, shots: images[0],
  "shots of the first class": lambda images, q, shots: shots[0],
}


@pytest.fixture(scope="module")
def large():
  return next(variable_episodes(SOURCES, meta_batch_size=4000, seed=3, **LIMITS)())


def test_sources_ways_queries_and_shots_are_distributed_as_in_the_paper(large):
  random = np.random.default_rng(1)
  drawn, slow = list(drawn_sizes(large)), [slow_sizes(random) for _ in range(12000)]
  numbers = np.bincount([number for number, *_ in drawn])
  assert stats.chisquare(numbers).pvalue > 1e-3
  for number in (0, 1):
    of_one = [[task[1:] for task in tasks if task[0] == number] for tasks in (drawn, slow)]
    for name, of in STATISTICS.items():
      values = [[of(*task) for task in tasks] for tasks in of_one]
      kinds = np.unique(np.concatenate(values))
      table = np.array([[np.sum(np.asarray(found) == kind) for kind in kinds] for found in values])
      table = table[:, table.sum(0) >= 40]
      assert table.shape[1] < 2 or stats.chi2_contingency(table).pvalue > 1e-3, (number, name)
      assert stats.ks_2samp(*values).pvalue > 1e-3, (number, name)


def test_ways_are_uniform_and_any_class_and_image_is_as_likely_as_another(large):
  drawn = [task for task in drawn_sizes(large) if task[0] == 0]
  ways = np.bincount([len(images) for _, images, *_ in drawn])[3:]
  assert len(ways) == 7 and stats.chisquare(ways).pvalue > 1e-3
  pixels = large.query.inputs.values[..., 0, :, 0].astype(int)  # class and number
  first = pixels[large.query.inputs.values[:, 0, 1, 0, 0] == 0][:, 0]
  assert stats.chisquare(np.bincount(first[:, 0], minlength=12)).pvalue > 1e-3
  of_a_class = first[first[:, 0] == 1, 1]
  assert stats.chisquare(np.bincount(of_a_class, minlength=40)).pvalue > 1e-3


def test_images_of_a_task_are_of_one_source_distinct_and_of_one_class_a_way(large):
  for task in range(300):
    seen = []
    for part in large:
      there = part.inputs.mask[task]
      pixels = part.inputs.values[task][there].astype(int).reshape(-1, 4)
      way = part.labels[task][there].argmax(-1)
      assert (np.diff(way) >= 0).all() and set(zip(way, pixels[:, 0], strict=True)) == {
        (w, pixels[way == w][0, 0]) for w in set(way)
      }
      seen.append(pixels)
    seen = np.concatenate(seen)
    assert len(set(map(tuple, seen))) == len(seen) and len(set(seen[:, 2])) == 1


def test_padded_rows_come_last_and_are_zeros_in_values_and_labels(large):
  for part, rows in zip(large, (60, 42), strict=True):
    there = part.labels.any(-1)
    assert part.inputs.values.shape == (4000, rows, 2, 2, 1) and part.labels.shape == (4000, rows, 9)
    assert {leaf.dtype.name for leaf in jax.tree.leaves(part)} == {"uint8", "float32", "bool"}
    np.testing.assert_array_equal(part.inputs.mask, there)
    assert (np.diff(there.astype(int), axis=1) <= 0).all() and there[:, 0].all()
    assert not part.inputs.values[~there].any() and part.inputs.values[there].any((-3, -2, -1)).all()
    assert there.sum(1).max() > 0.8 * rows  # the shape is not much larger than the largest task
  assert large.support.inputs.mask.sum(1).min() == 3


@pytest.mark.parametrize("start", [0, 7])
def test_one_two_and_four_hosts_read_the_same_tasks_from_any_start(start):
  batches = variable_episodes(SOURCES, meta_batch_size=8, seed=-5, **LIMITS)
  whole = list(itertools.islice(batches(start=start), 2))
  for hosts in (2, 4):
    shares = [list(itertools.islice(batches(start=start, shard=(host, hosts)), 2)) for host in range(hosts)]
    for step in (0, 1):
      joined = jax.tree.map(lambda *parts: np.concatenate(parts), *(share[step] for share in shares))
      jax.tree.map(np.testing.assert_array_equal, joined, whole[step])
  jax.tree.map(np.testing.assert_array_equal, next(batches(start=start + 1)), whole[1])


def test_images_that_are_read_on_access_give_the_same_tasks_and_padding_reads_none():
  read, images = [], SOURCES[1].images
  decode = lambda files: read.append(len(files)) or images[files]
  lazy = SOURCES[1]._replace(images=LazyImages(decode, (2, 2, 1), np.arange(len(images))))
  how = {"meta_batch_size": 4, "seed": 4, **LIMITS}
  stored = list(itertools.islice(variable_episodes(SOURCES, **how)(), 4))
  jax.tree.map(np.testing.assert_array_equal, next(variable_episodes([SOURCES[0], lazy], **how)()), stored[0])
  real = sum(int((part.inputs.values[..., 1, 0, 0] > 0).sum()) for tasks in stored for part in tasks)
  assert 0 < sum(read) <= real  # of the first batch and those that are decoded ahead


def test_one_source_needs_no_list_and_other_seeds_and_steps_give_other_tasks():
  how = {"meta_batch_size": 2, **LIMITS}
  one = next(variable_episodes(SOURCES[0], **how)())
  jax.tree.map(np.testing.assert_array_equal, one, next(variable_episodes([SOURCES[0]], **how)()))
  places = [(0, start) for start in (0, 1, 2**32, 2**45)] + [(seed, 0) for seed in (1, -1, 2**62)]
  drawn = [next(variable_episodes(SOURCES[0], seed=seed, **how)(start=start)) for seed, start in places]
  assert len({tasks.query.inputs.values.tobytes() for tasks in drawn}) == len(places)


@pytest.mark.parametrize(
  ("given", "said"),
  [
    ({"source": []}, "one or more sources, got none"),
    ({"min_ways": 10}, "max_ways of at least min_ways, 10, got 9"),
    ({"max_support": 8}, "max_support of at least max_ways, 9, got 8"),
    ({"source": SOURCES[1], "min_ways": 6}, "at least min_ways classes in a source, 6, got 5"),
    ({"source": source_of((4, 1, 5))}, "at least 2 images of every class, .* got 1 of '1'"),
    (
      {"source": [SOURCES[0], from_arrays(np.zeros((8, 3, 2, 1), np.uint8), np.arange(8) // 2)]},
      r"images of one shape, got \[2, 2, 1\] and \[3, 2, 1\]",
    ),
    ({"source": [SOURCES[0], "glyphs"]}, "an ImageDataset"),
  ],
)
def test_impossible_tasks_are_refused_before_anything_is_drawn(given, said):
  with pytest.raises(ValueError, match=said):
    variable_episodes(**{"source": SOURCES, "meta_batch_size": 2, **LIMITS, **given})


def test_accuracy_counts_real_queries_alone_and_predictions_of_padding_may_be_anything():
  batches = variable_episodes(SOURCES, meta_batch_size=3, **LIMITS)
  tasks = next(batches())

  def first_way(params, state, support, inputs):
    return jax.numpy.where(inputs.mask[:, None], np.eye(9)[0], np.nan)

  found = few_shot_accuracy(Learner(None, None, None, first_way), {}, {}, batches, 3)
  np.testing.assert_allclose(found.tasks, 100 / tasks.query.labels.any(1).sum(1), rtol=1e-5)
