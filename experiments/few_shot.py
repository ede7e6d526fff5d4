"""What every few-shot experiment does: data, training with model selection, the test on unseen classes, the records."""

import contextlib
import functools
import re
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from experiments import few_shot_page, headlines, records, runs
from experiments.few_shot_data import check_disjoint, describe, load_parts, slug
from experiments.few_shot_scores import Tested, check_curve, curve_records, records_of, tell, test_all, test_pixels
from metajax import Episode, Examples, Learner, few_shot_accuracy, make_mesh
from metajax.checkpoint import Checkpoints
from metajax.data import Source, episodes
from metajax.losses import check_fits
from metajax.mesh import devices_for, for_hosts, own_share, shard_batch, share
from metajax.train import TrainState, each_seed, for_seeds, seeds_at_once

TASKS_AT_ONCE = 20  # of an evaluation
TEST_SEED = 2  # of the test tasks, the same for every learner and every run


class Setting(NamedTuple):
  """Flags that every few-shot experiment has."""

  data: str = "glyphs"
  """glyphs, omniglot, any TFDS classification set, or pictures of one's own: a folder, a .csv or an .npz file."""
  split: str = ""
  """A named split of the data's classes: lake, vinyals or finn for omniglot."""
  download: bool = False
  """Let TFDS download data that is not there."""
  skip_broken: bool = False
  """Leave out files of one's own that cannot be read, rather than stop."""
  min_images_per_class: int = 1
  """Leave out classes that have fewer pictures."""
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
  within_groups: bool = False
  """The classes of a training task (or batch) are of one alphabet."""
  steps: int = 60000
  """Training steps."""
  rate: float = 1e-3
  """The outer optimizer's rate."""
  decay: Literal["none", "cosine", "linear", "halving"] = "none"
  """How the rate falls: to 0 along a cosine or a line, or by half every 2,000 steps."""
  test: tuple[str, ...] = ()
  """Settings to test at, such as 5w1s 20w5s; the training setting by default."""
  test_queries: int = 15
  """Query pictures of each class in a validation or test task."""
  test_tasks: int = 1000
  """Test tasks of each setting."""
  curve: int = 0
  """Measure the accuracy after 0, 1, ... to this many adaptation steps, at the first setting."""
  validation_tasks: int = 200
  """Validation tasks, from classes cut from training."""
  validate_every: int = 1000
  """Steps between validations; the parameters of the best one are tested."""
  devices: int | None = None
  """Devices to share the tasks of a step; by default as many as divide them."""
  seed: int = 0
  """Of the initialisation and the training tasks."""
  seeds: int = 1
  """Train as many networks, from --seed on; the figures are their mean, with an interval over them."""
  seeds_at_once: int | None = None
  """How many of them train side by side; by default as many as the memory allows."""


class Comparison(NamedTuple):
  """What a learner says of a query and one support picture, where it compares them.

  Attributes:
    measure: its name.
    of_logits: from the logits `[n, support]` of a task in which each support picture is a way of its own.
    best: "largest" or "smallest".
  """

  measure: str
  of_logits: Callable
  best: str = "largest"


class Method(NamedTuple):
  """A few-shot learner, and how it is trained and tested.

  Attributes:
    name: of its runs.
    learner: what is trained.
    tested: the ways to use it; the first one chooses the step by validation, and is shown on the run's page.
    optimizer: `setting -> optax optimizer`; Adam with the setting's schedule by default.
    batches: `(source, setting, seed) -> Batches` to train on; episodes by default.
    compares: what the run's page shows of each query and support picture, if anything.
  """

  name: str
  learner: Learner
  tested: tuple[Tested, ...]
  optimizer: Callable[..., optax.GradientTransformation] | None = None
  batches: Callable[..., Callable] | None = None
  compares: Comparison | None = None


def experiment(method: Callable[..., Method]) -> Callable:
  """The command of a method: `method(**flags)`, which has flags of its own, a `setting` and a `run`, is trained and
  tested."""

  @functools.wraps(method)
  def main(**flags):
    run(method, flags)

  return main


def run(method: Callable[..., Method], flags: dict):
  """Trains, selects on validation tasks, tests on unseen classes beside two baselines, and writes what it found."""
  s, made = flags["setting"], made_by(method, flags)
  this = runs.begin(f"{made.name}-{slug(s)}", method, flags)
  check_seed(s.seed, s.seeds)
  check_curve(made.tested, s.curve)
  tests = tests_of(s)
  check_shapes(made, s, tests)
  parts = load_parts(s)
  check_disjoint(s, **parts)
  describe(s, parts)
  draw = made.batches or training_batches
  batches = [draw(parts["train"], s, seed) for seed in seeds_of(s)]
  # Validation tasks too have a seed of their own, the same for every learner and every run.
  validation = test_batches(parts["validation"], *tests[0], s.test_queries, seed=1, part="validation")
  at = {test: test_batches(parts["test"], *test, s.test_queries, seed=TEST_SEED) for test in tests}
  example = next(iter(own_share(batches[0])))
  shapes = jax.eval_shape(made.learner.init, jax.random.key(0), example)
  if this.resumed:
    for folder in groups(s, at_once=s.seeds_at_once or 1):
      Checkpoints(this.folder / folder / "checkpoints").check({"params": shapes[0], "state": shapes[1]})
    runs.check_same(this)
  for some in (validation, *at.values()) if made.batches else ():
    check_fits_test(made, shapes, next(some()))

  rows = jax.tree.leaves(example)[0].shape[0] * share()[1]
  device_count = devices_for(rows, s.devices)
  with jax.set_mesh(make_mesh(device_count, fsdp=this.flags.fsdp)):
    shard_batch(example)  # refuses what the devices do not divide, before anything is written
    at_once = _at_once(this, made, batches, s)
    this = runs.write_configuration(this, device_count, seeds_at_once=at_once)
    trained, seconds = _train(this, made, batches, validation, rows, s, at_once)
    how = {"train_seconds": round(seconds), "steps": s.steps, "devices": device_count, "test_seed": TEST_SEED}
    how["chosen_step"] = [int(one.step) for one in trained] if s.seeds > 1 else int(trained[0].step)
    measured, tiles = [], []
    for test, some in at.items():
      scores = test_all(made.tested, trained, some, s.test_tasks) | test_pixels(some, s.test_tasks)
      tell(test, scores, s.test_tasks, s.test_queries)
      here = records_of(test, scores, s, how)
      measured += here
      tiles.append(few_shot_page.tile(here[0], here[-1]))
    measured += curve_records(made.tested, trained, next(iter(at.items())), s, how)
    print(f"\ntrained for {seconds:.0f} s on {device_count} device(s), step {_steps(trained)} of {s.steps} chosen on "
          "validation tasks")  # fmt: skip
    records.write(this.folder / "records.json", measured)
    warnings = headlines.warn(this.folder, measured)
    few_shot_page.write(this, made, trained[0], parts, tests[0], s, measured, tiles, warnings)
  print(f"the run's page: {this.folder / 'index.html'}")
  if this.flags.record:
    records.publish(f"{made.name}-{slug(s)}", measured, this.folder / "figures" / "episode.png")


def made_by(method: Callable[..., Method], flags: dict) -> Method:
  """The Method of some flags; its names say if it is trained within alphabets."""
  made = method(**flags)
  if not flags["setting"].within_groups:
    return made
  return made._replace(tested=tuple(way._replace(name=f"{way.name}, within alphabets") for way in made.tested))


def seeds_of(s) -> range:
  """The seeds that a run trains."""
  return range(s.seed, s.seed + s.seeds)


def groups(s: Setting, at_once: int) -> dict[str, list[int]]:
  """`{folder within the run's: the seeds that train there side by side}`."""
  seeds = list(seeds_of(s))
  if s.seeds == 1:
    return {"": seeds}
  parts = [seeds[i : i + at_once] for i in range(0, s.seeds, at_once)]
  return {f"seed-{part[0]}" if len(part) == 1 else f"seeds-{part[0]}-{part[-1]}": part for part in parts}


def together(batches: Sequence[Callable], seeds: Sequence[int]) -> tuple[Callable, int | tuple[int, ...]]:
  """The batches and the seed that `fit` is to have for some seeds: for one, or for several side by side."""
  return (batches[0], seeds[0]) if len(seeds) == 1 else (for_seeds(batches), tuple(seeds))


def optimizer(made: Method, s: Setting) -> optax.GradientTransformation:
  """The method's own, or Adam with the setting's schedule."""
  return made.optimizer(s) if made.optimizer else optax.adam(schedule(s.rate, s.decay, s.steps))


def schedule(rate: float, decay: str, steps: int) -> optax.Schedule | float:
  """The outer rate: constant, along a cosine or a line to 0 at `steps`, or halved every 2,000 steps."""
  if decay == "linear":
    return optax.linear_schedule(rate, 0, max(steps, 1))
  if decay == "cosine":
    return optax.cosine_decay_schedule(rate, max(steps, 1))
  return optax.exponential_decay(rate, 2000, 0.5, staircase=True) if decay == "halving" else rate


def _at_once(this, made: Method, batches, s: Setting) -> int:
  """How many seeds train side by side: as before, as asked, or as many as the memory allows."""
  if s.seeds == 1:
    return 1
  before = runs.configuration(this.folder)["seeds_at_once"] if this.resumed else s.seeds_at_once
  at_once = before or seeds_at_once(made.learner, optimizer(made, s), batches, list(seeds_of(s)))
  print(f"{s.seeds} seeds, {at_once} at once")
  return at_once


def _train(
  this, made: Method, batches, validation, rows: int, s: Setting, at_once: int
) -> tuple[list[TrainState], float]:
  """The best TrainState of each seed, and the seconds that all took."""

  def validate(params, state):
    return few_shot_accuracy(made.tested[0].learner, params, state, validation, s.validation_tasks).mean

  trained, seconds = [], 0.0
  for part, seeds in groups(s, at_once).items():
    own, seed = together([batches[seed - s.seed] for seed in seeds], seeds)
    found, took = runs.train(
      this,
      made.learner,
      optimizer(made, s),
      own,
      s.steps,
      rows=rows * len(seeds),
      part=part,
      seed=seed,
      validate=validate,
      validate_every=s.validate_every,
    )
    trained += each_seed(found, seed)
    seconds += took
  return trained, seconds


def training_batches(source: Source, s: Setting, seed: int) -> Callable:
  """The training tasks of a setting."""
  with _named("training", "--ways, --shots, --queries"):
    task = {"ways": s.ways, "shots": s.shots, "queries": s.queries, "within_groups": s.within_groups}
    return episodes(source, **task, tasks=s.tasks, seed=seed)


def test_batches(source: Source, ways: int, shots: int, queries: int, seed: int, part: str = "test") -> Callable:
  """Tasks to validate or test on."""
  with _named(part, "--test, --test-queries"):
    return episodes(source, ways=ways, shots=shots, queries=queries, tasks=for_hosts(TASKS_AT_ONCE), seed=seed)


@contextlib.contextmanager
def _named(part: str, flags: str):
  """Says of which part of the data an error is, and which flags it is about."""
  try:
    yield
  except ValueError as error:
    raise ValueError(f"{error} ({part} classes: {flags})") from None


def tests_of(s: Setting) -> list[tuple[int, int]]:
  """Ways and shots of each setting to test at."""
  return [ways_and_shots(text) for text in s.test] or [(s.ways, s.shots)]


def ways_and_shots(text: str) -> tuple[int, int]:
  """5 and 1 of "5w1s".

  Raises:
    ValueError: if it is something else.
  """
  found = re.fullmatch(r"0*(\d{1,6})w0*(\d{1,6})s", text, re.ASCII)
  if not found or int(found[1]) < 2 or int(found[2]) < 1:
    raise ValueError(f"expected a setting to test at such as 5w1s, got {text!r}")
  return int(found[1]), int(found[2])


def check_fits_test(made: Method, shapes, test_episodes):
  """Finds before training, without compiling, that a learner cannot be tested at a setting."""
  support, query = jax.eval_shape(lambda tasks: jax.tree.map(lambda x: x[0], tasks), test_episodes)
  for tested in made.tested:
    check_fits(jax.eval_shape(tested.learner.predict, *shapes, support, query.inputs), query.labels)


def check_shapes(made: Method, s: Setting, tests):
  """Finds before data are loaded, without compiling, what of a method's flags does not fit together.

  Of one that is trained on something else than episodes, this is found once there is a batch.

  Raises:
    ValueError: if devices do not divide the tasks, pictures are too small for its network, or it cannot be tested at a
      setting.
  """
  if made.batches is not None:
    return
  devices = devices_for(s.tasks, s.devices)
  if s.tasks % devices:
    raise ValueError(f"expected --tasks that {devices} devices divide, got {s.tasks}")
  shapes = jax.eval_shape(made.learner.init, jax.random.key(0), _blank(s, s.tasks, s.ways, s.shots, s.queries))
  for ways, shots in tests:
    check_fits_test(made, shapes, _blank(s, 1, ways, shots, s.test_queries))


def _blank(s: Setting, tasks: int, ways: int, *counts: int) -> Episode:
  """The shapes of tasks, with so many support and query pictures of each class."""
  of = lambda *shape: jax.ShapeDtypeStruct((tasks, *shape), jnp.float32)
  return Episode(*(Examples(of(n * ways, s.size, s.size, 1), of(n * ways, ways)) for n in counts))


def check_seed(seed: int, seeds: int):
  """Refuses a first seed that leaves no room for all.

  Raises:
    ValueError: with it.
  """
  if seed > 2**32 - seeds:
    raise ValueError(f"expected --seed to be at most 2**32 - {seeds}, the --seeds, got {seed}")


def _steps(trained):
  return " ".join(str(int(one.step)) for one in trained)
