"""What every few-shot experiment does: data, training with model selection, the test on unseen classes, the records."""

import itertools
import math
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
from metajax.losses import check_fits
from metajax.mesh import tasks_at_once
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
  """Devices to share the tasks of a step; by default as many as divide them."""
  seed: int = 0
  """Of the initialisation and the training tasks."""
  output: Path = Path("runs")
  """Folder in which the run's own folder is made."""
  record: bool = False
  """Write records and picture to experiments/results and rebuild experiments/README.md."""


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
  records.check_writable(s.output)
  tests = [_ways_and_shots(text) for text in s.test] or [(s.ways, s.shots)]
  if min(s.test_tasks, s.validation_tasks) < 2:
    given = f"{s.test_tasks} to test and {s.validation_tasks} to validate"
    raise ValueError(f"expected at least 2 tasks, so that there is an interval, got {given}")
  if not 0 < s.rate < math.inf:
    raise ValueError(f"expected a rate above 0, got {s.rate}")
  if not 0 <= s.seed < 2**32:
    raise ValueError(f"expected a seed of 0 to 2**32 - 1, got {s.seed}")
  train, validation, test = (_load(s, part) for part in ("train", "validation", "test"))
  _check_disjoint(s, train=train, validation=validation, test=test)
  batches = episodes(train, ways=s.ways, shots=s.shots, queries=s.queries, tasks=s.tasks, seed=s.seed)
  # Validation and test tasks have seeds of their own, the same for every learner and every run.
  validation_batches = _test_batches(validation, *tests[0], s.test_queries, seed=1)
  test_batches = {setting: _test_batches(test, *setting, s.test_queries, seed=2) for setting in tests}
  made = jax.eval_shape(learner.init, jax.random.key(0), next(batches()))
  for at in (validation_batches, *test_batches.values()):
    _check_fits(test_learner, made, next(at()))
  print(f"{s.data}: {_describe(train)} to train on, {_describe(validation)} to validate, {_describe(test)} to test")

  device_count = tasks_at_once(s.tasks, jax.device_count()) if s.devices is None else s.devices
  with jax.set_mesh(make_mesh(device_count)):
    began = time.perf_counter()
    trained = _fit(learner, test_learner, batches, validation_batches, s)
    seconds = time.perf_counter() - began
    measured = []
    for setting, at in test_batches.items():
      score = few_shot_accuracy(test_learner, trained.params, trained.state, at, s.test_tasks)
      pixels = few_shot_accuracy(_PIXELS, (), (), at, s.test_tasks)
      _tell(name, setting, score, pixels, s)
      run = {"train_seconds": round(seconds), "steps": s.steps, "chosen_step": int(trained.step)}
      measured.append(_record(name, policy, setting, score, s, run))
      measured.append(_record("pixels", "none", setting, pixels, s, {"train_seconds": 0, "steps": 0}))
  chosen = f"step {int(trained.step)} of {s.steps} chosen on validation tasks"
  print(f"\ntrained for {seconds:.0f} s on {device_count} device(s), {chosen}; batch statistics at test: {policy}")
  folder = s.output / time.strftime(f"{name}-{s.data}-%Y%m%d-%H%M%S")
  records.write(folder / "records.json", measured)
  pictures = [folder / "episode.png"] + [records.HERE / "results" / f"{name}-{s.data}.png"] * s.record
  for path in pictures:
    _draw(test_learner, trained, test_batches[tests[0]], path, f"{name}: {s.data}, unseen classes")
  print(f"records and the picture of a test episode: {folder}")
  if s.record:
    records.publish(f"{name}-{s.data}", measured)


def schedule(rate: float, decay: str, steps: int) -> optax.Schedule | float:
  """The outer rate: constant, along a cosine to 0 at `steps`, or halved every 2,000 steps."""
  if decay == "cosine":
    return optax.cosine_decay_schedule(rate, max(steps, 1))
  return optax.exponential_decay(rate, 2000, 0.5, staircase=True) if decay == "halving" else rate


def _fit(learner, test_learner, batches, validation, s):
  optimizer = optax.adam(schedule(s.rate, s.decay, s.steps))
  found = []

  def validate(params, state):
    found.append(few_shot_accuracy(test_learner, params, state, validation, s.validation_tasks).mean)
    return found[-1]

  with progress(s.steps, s.tasks) as log:
    tell = lambda step, metrics: log(step, metrics | ({"validation": found[-1]} if found else {}))
    return fit(
      learner,
      optimizer,
      batches,
      s.steps,
      seed=s.seed,
      log=tell,
      log_every=max(1, min(100, s.steps // 20)),
      validate=validate,
      validate_every=s.validate_every,
    )


def _test_batches(source: Source, ways: int, shots: int, queries: int, seed: int) -> Callable:
  return episodes(source, ways=ways, shots=shots, queries=queries, tasks=20, seed=seed)


def _load(s: Setting, part: str) -> Source:
  split = f"{s.split}/{part}" if s.split else part
  return load(s.data, split, size=s.size, download=s.download, rotations=_rotates(s))


def _rotates(s: Setting) -> bool:
  """Whether each quarter turn of a class is a class of its own, as is the custom on Omniglot."""
  return s.data == "omniglot"


def _split_name(s: Setting) -> str:
  named = s.split or ("lake" if s.data == "omniglot" else "")
  return f"{named}/test" if named else "test"


def _describe(source: Source) -> str:
  groups = len(set(source.groups) - {""})
  return f"{len(source.classes)} classes" + (f" of {groups} alphabets" if groups > 1 else "")


def _ways_and_shots(text: str) -> tuple[int, int]:
  found = re.fullmatch(r"(\d+)w(\d+)s", text)
  if not found:
    raise ValueError(f"expected a setting to test at such as 5w1s, got {text!r}")
  return int(found[1]), int(found[2])


def _check_disjoint(s, **parts):
  """Refuses parts that share a class: what is tested would have been seen."""
  for first, second in itertools.combinations(parts, 2):
    if shared := set(parts[first].classes) & set(parts[second].classes):
      given = f"{len(shared)} of {s.data} in both, such as {min(shared)!r}"
      raise ValueError(f"expected no class of {first} in {second}, got {given}: leave out --split {s.split}")


def _check_fits(test_learner, made, test_episodes):
  """Finds before training, without compiling, that a learner cannot be tested at a setting."""
  support, query = jax.tree.map(lambda x: x[0], test_episodes)
  check_fits(jax.eval_shape(test_learner.predict, *made, support, query.inputs), query.labels)


def _tell(name, setting, score, pixels, s):
  ways, shots = setting
  print(f"\n{ways}-way {shots}-shot on unseen classes, {s.test_tasks} tasks of {s.test_queries} queries a class")
  for what, value in (
    (name, f"{score}%"),
    ("pixels, nearest centroid", f"{pixels}%"),
    ("chance", f"{100 / ways:.2f}%"),
  ):
    print(f"  {what:<26} {value}")


def _record(name, policy, setting, score, s, run):
  ways, shots = setting
  return records.record(
    learner=name,
    data=s.data,
    split=_split_name(s),
    rotations=_rotates(s),
    measure="accuracy",
    ways=ways,
    shots=shots,
    queries=s.test_queries,
    policy=policy,
    tasks=s.test_tasks,
    value=round(score.mean, 2),
    interval=round(score.interval, 2),
    published=published.accuracy(name, s.data, ways, shots),
    seed=s.seed,
    **run,
  )


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
