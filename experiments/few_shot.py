"""What every few-shot experiment does: data, training with model selection, the test on unseen classes, the records."""

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple

import jax
import numpy as np
import optax

from experiments import published, records
from metajax import Learner, few_shot_accuracy, fit, make_mesh
from metajax.data import Source, episodes, load
from metajax.predictors import nearest_centroid
from metajax.report import episode_figure, progress


class Setting(NamedTuple):
  """Flags that every few-shot experiment has."""

  data: str = "glyphs"
  """glyphs, omniglot, or any TFDS classification set."""
  split: str = ""
  """A named split of the data's classes: lake, vinyals or finn for omniglot."""
  download: bool = False
  """Let TFDS download data that is not there."""
  size: int = 28
  """Pictures are brought to size x size pixels."""
  ways: int = 5
  """Classes of a training task."""
  shots: int = 1
  """Support pictures of each class in a training task."""
  queries: int = 15
  """Query pictures of each class in a training task."""
  tasks: int = 32
  """Training tasks in a step."""
  steps: int = 60000
  """Training steps."""
  rate: float = 1e-3
  """Adam's rate."""
  decay: Literal["none", "cosine", "halving"] = "none"
  """How the rate falls: to 0 along a cosine, or by half every 2,000 steps."""
  test: tuple[str, ...] = ()
  """Settings to test at, such as 5w1s 20w5s; the training setting by default."""
  test_queries: int = 15
  """Query pictures of each class in a validation or test task."""
  test_tasks: int = 1000
  """Test tasks of each setting."""
  validation_tasks: int = 200
  """Validation tasks, from classes cut from training."""
  validate_every: int = 1000
  """Steps between validations; the parameters of the best one are tested."""
  devices: int | None = None
  """Devices to share the tasks of a step; all by default."""
  seed: int = 0
  """Of the initialisation and the training tasks."""
  output: Path = Path("runs")
  """Folder in which the run's own folder is made."""
  record: bool = False
  """Write the records to experiments/results and rebuild experiments/README.md."""


def run(name: str, learner: Learner, test_learner: Learner, policy: str, setting: Setting):
  """Trains, selects on validation tasks, tests on unseen classes beside two baselines, and writes what it found.

  Args:
    name: of the learner, in the records.
    learner: what is trained.
    test_learner: what is validated and tested; MAML's may take more steps.
    policy: how batch statistics are had at test time, in the records.
    setting: the flags.
  """
  s = setting
  tests = [_ways_and_shots(text) for text in s.test] or [(s.ways, s.shots)]
  train, validation, test = (_load(s, part) for part in ("train", "validation", "test"))
  print(f"{s.data}: {_describe(train)} to train on, {_describe(validation)} to validate, {_describe(test)} to test")
  batches = episodes(train, ways=s.ways, shots=s.shots, queries=s.queries, tasks=s.tasks, seed=s.seed)
  rounds = {  # validation and test tasks have seeds of their own, the same for every learner and every run
    "validation": _test_batches(validation, *tests[0], s.test_queries, seed=1),
    **{test_at: _test_batches(test, *test_at, s.test_queries, seed=2) for test_at in tests},
  }
  with jax.set_mesh(make_mesh(s.devices)):
    baselines = {test_at: _score(_PIXELS, (), (), rounds[test_at], s.test_tasks) for test_at in tests}
    began = time.perf_counter()
    trained = _fit(learner, test_learner, batches, rounds["validation"], s)
    seconds = time.perf_counter() - began
    scores = {test_at: _score(test_learner, *trained[:2], rounds[test_at], s.test_tasks) for test_at in tests}
  measured = []
  for (ways, shots), score in scores.items():
    common = {
      "data": s.data, "split": _split_name(s), "measure": "accuracy", "ways": ways, "shots": shots,
      "queries": s.test_queries, "tasks": s.test_tasks,
    }  # fmt: skip
    print(f"\n{ways}-way {shots}-shot on unseen classes, {s.test_tasks} tasks of {s.test_queries} queries a class")
    print(f"  {name:<28} {score}%  ({policy}; trained {seconds:.0f} s, step {int(trained.step)} chosen)")
    print(f"  {'pixels, nearest centroid':<28} {baselines[ways, shots]}%")
    print(f"  {'chance':<28} {100 / ways:.2f}%")
    measured += [
      records.record(
        learner=name, **common, policy=policy, value=round(score.mean, 2), interval=round(score.interval, 2),
        published=published.accuracy(name, s.data, ways, shots), train_seconds=round(seconds), steps=s.steps,
        chosen_step=int(trained.step), seed=s.seed,
      ),
      records.record(
        learner="pixels", **common, policy="none", value=round(baselines[ways, shots].mean, 2),
        interval=round(baselines[ways, shots].interval, 2), published=None, train_seconds=0, steps=0,
        chosen_step=0, seed=s.seed,
      ),
    ]  # fmt: skip
  folder = s.output / time.strftime(f"{name}-{s.data}-%Y%m%d-%H%M%S")
  records.write(folder / "records.json", measured)
  _draw(test_learner, trained, rounds[tests[0]], folder / "episode.png", f"{name}: {s.data}, unseen classes")
  print(f"\nrecords and the picture of a test episode: {folder}")
  if s.record:
    records.publish(f"{name}-{s.data}", measured)


def schedule(rate: float, decay: str, steps: int) -> optax.Schedule | float:
  """The outer rate: constant, along a cosine to 0 at `steps`, or halved every 2,000 steps."""
  if decay == "cosine":
    return optax.cosine_decay_schedule(rate, max(steps, 1))
  return optax.exponential_decay(rate, 2000, 0.5, staircase=True) if decay == "halving" else rate


def _fit(learner, test_learner, batches, validation, s):
  validate = lambda params, state: _score(test_learner, params, state, validation, s.validation_tasks).mean
  optimizer = optax.adam(schedule(s.rate, s.decay, s.steps))
  best = []

  def validate_and_tell(params, state):
    best.append(validate(params, state))
    return best[-1]

  with progress(s.steps, s.tasks) as log:
    tell = lambda step, metrics: log(step, {**metrics, **({"validation": best[-1]} if best else {})})
    return fit(
      learner, optimizer, batches, s.steps, seed=s.seed, log=tell, log_every=max(1, min(100, s.steps // 20)),
      validate=validate_and_tell, validate_every=s.validate_every,
    )  # fmt: skip


def _score(learner, params, state, batches, tasks):
  return few_shot_accuracy(learner, params, state, batches, tasks)


def _test_batches(source: Source, ways: int, shots: int, queries: int, seed: int) -> Callable:
  return episodes(source, ways=ways, shots=shots, queries=queries, tasks=20, seed=seed)


def _load(s: Setting, part: str) -> Source:
  split = f"{s.split}/{part}" if s.split else part
  return load(s.data, split, size=s.size, download=s.download, rotations=s.data == "omniglot")


def _split_name(s: Setting) -> str:
  return f"{s.split or 'lake'}/test" if s.data == "omniglot" else "test"


def _describe(source: Source) -> str:
  groups = len(set(source.groups) - {""})
  return f"{len(source.classes)} classes" + (f" of {groups} alphabets" if groups > 1 else "")


def _ways_and_shots(text: str) -> tuple[int, int]:
  found = re.fullmatch(r"(\d+)w(\d+)s", text)
  if not found:
    raise ValueError(f"expected a setting to test at such as 5w1s, got {text!r}")
  return int(found[1]), int(found[2])


def _draw(learner, trained, batches, path, title):
  episode = jax.tree.map(lambda x: x[0], next(batches()))
  logits = jax.jit(learner.predict)(trained.params, trained.state, episode.support, episode.query.inputs)
  right = np.mean(np.argmax(logits, -1) == np.argmax(episode.query.labels, -1))
  episode_figure(episode, logits, path, title=f"{title}, one test episode ({100 * right:.0f}% right)")


def _flat_pixels(params, state, inputs):
  return inputs.reshape(len(inputs), -1)


_PIXELS = Learner(
  init=lambda key, batch: ((), ()),
  loss=lambda params, state, batch, key: (0.0, (state, {})),
  embed=_flat_pixels,
  predict=nearest_centroid(_flat_pixels),
)
