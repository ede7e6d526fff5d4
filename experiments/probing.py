"""What frozen features are worth, of several representations by the same probes: accuracies, and their records."""

import itertools
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import jax
import numpy as np

from experiments import few_shot, published, records
from experiments.few_shot_data import slug, split_name
from experiments.few_shot_scores import PIXELS, Tested, records_of, tell, test_all, test_pixels
from experiments.pretraining_data import Parts
from metajax.data import Source, episode_rows, in_order
from metajax.evaluate import features, linear_probe, nearest_neighbours, over_seeds
from metajax.mesh import for_hosts
from metajax.shards import host_slice
from metajax.train import TrainState
from metajax.types import Episode, Examples, Learner

BATCH = 256  # pictures embedded at once
PROBES = {"linear_probe": linear_probe, "knn": nearest_neighbours}


class Representation(NamedTuple):
  """Frozen features: a name, `embed`, and the (params, state) of each seed."""

  name: str
  embed: Callable
  trained: Sequence[tuple]


def probe_all(shown: Sequence[Representation], parts: Parts, s, how: dict) -> list[dict]:
  """The records of a linear probe and of nearest neighbours on each representation, and what is printed of them."""
  print(f"\nfrozen features of {len(parts.test.classes)} classes{', unseen' * parts.unseen}: accuracy on "
        f"{len(parts.test.labels):,} pictures, linear probe and nearest neighbours")  # fmt: skip
  measured, width = [], max(len(one.name) for one in shown)
  for one in shown:
    found = {measure: [] for measure in PROBES}
    for params, state in one.trained:
      three = [features(one.embed, params, state, in_order(part, batch_size=BATCH)) for part in parts[1:4]]
      for measure, probe in PROBES.items():
        found[measure].append(probe(*three))
    scores = {measure: over_seeds([probed.test for probed in some]) for measure, some in found.items()}
    print(f"  {one.name:<{width}}  {scores['linear_probe']}%  {scores['knn']}%")
    for measure, some in found.items():
      chosen = [probed.chosen for probed in some]
      measured.append(_record(one, measure, scores[measure], chosen, parts, s, how))
  print(f"  {'chance':<{width}}  {100 / len(parts.test.classes):.2f}%")
  return measured


def few_shot_tasks(parts: Parts, s) -> dict:
  """`{(ways, shots): batches}` of the test tasks of a setting, where there are unseen classes."""
  tests = few_shot.tests_of(s) if parts.episodes else []
  return {t: few_shot.test_batches(parts.episodes, *t, s.test_queries, seed=few_shot.TEST_SEED) for t in tests}


def few_shot_all(learners: dict, tasks: dict, s, how: dict, frozen: Source | None = None) -> list[dict]:
  """The records of frozen embeddings on few-shot tasks, in the table of the meta-learners.

  Args:
    learners: `{name: (learner, the (params, state) of each seed)}`.
    tasks: of `few_shot_tasks`.
    s: the setting.
    how: what records say of the training.
    frozen: the pictures that tasks are drawn from, of learners that put centroids on their embeddings: each picture is
      then embedded once, however many tasks it is in.
  """
  measured = []
  how = {name: value for name, value in how.items() if name != "seed"} | {"test_seed": few_shot.TEST_SEED}
  once = {name: _embedded_once(*one, frozen) for name, one in learners.items()} if frozen and tasks else {}
  for test, some in tasks.items():
    scores = {}
    for name, (learner, trained) in learners.items():
      way = Tested(name, _CENTROIDS if name in once else learner, _POLICY)
      if name in once:
        scores[way] = [test_all([way], [_NOTHING], own(*test, s), s.test_tasks)[way][0] for own in once[name]]
      else:
        states = [TrainState(params, state, None, None, s.steps) for params, state in trained]
        scores |= test_all([way], states, some, s.test_tasks)
    scores |= test_pixels(some, s.test_tasks)
    tell(test, scores, s.test_tasks, s.test_queries)
    measured += records_of(test, scores, s, how)
  return measured


_POLICY, _NOTHING = "running statistics", TrainState((), (), None, None, 0)
_CENTROIDS = PIXELS.learner  # of what is given, which is features


def _embedded_once(learner: Learner, trained: Sequence[tuple], source: Source) -> list[Callable]:
  """For each seed `(ways, shots, setting) -> batches` of the tasks of `few_shot_tasks`, of features."""
  whole = in_order(source, batch_size=BATCH)
  return [partial(_tasks_of, features(learner.embed, params, state, whole).inputs, source) for params, state in trained]


def _tasks_of(found, source: Source, ways: int, shots: int, s) -> Callable:
  rows_of = episode_rows(source, ways=ways, shots=shots, queries=s.test_queries, seed=few_shot.TEST_SEED)
  at_once = for_hosts(few_shot.TASKS_AT_ONCE)
  label = lambda each: np.repeat(np.eye(ways, dtype=np.float32), each, 0)
  part = lambda rows: Examples(found[rows.reshape(-1)], label(rows.shape[1]))

  def batches(start=0, shard=(0, 1)):
    own = host_slice(at_once, shard)
    for first in itertools.count(start * at_once, at_once):
      tasks = [rows_of(first + i) for i in range(own.start, own.stop)]
      both = [Episode(part(rows[:, :shots]), part(rows[:, shots:])) for rows in tasks]
      yield jax.tree.map(lambda *x: np.stack(x), *both)

  return batches


def common(parts: Parts, s) -> dict:
  """What records say of the pictures that representations are tested on."""
  split = "own/test" if not parts.unseen else f"{split_name(s)}, pictures apart"
  return {"data": slug(s), "split": split, "classes": len(parts.test.classes), "tested": len(parts.test.labels)}


def _record(one: Representation, measure, score, chosen, parts, s, how) -> dict:
  said = common(parts, s) | {"measure": measure, "labelled": len(parts.train.labels), "labels": 1.0}
  said |= {"value": round(score.mean, 2), "interval": round(score.interval, 2), "chosen": chosen}
  said["published"] = published.representation(one.name, measure, slug(s))
  if one.name == "pixels":
    return records.record(learner=one.name, **said, train_seconds=0, steps=0, seed=s.seed)
  return records.record(learner=one.name, **said, **how, seeds=s.seeds)
