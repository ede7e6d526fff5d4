"""What every pretraining experiment does: pretrain without labels, probe what was learned beside two baselines."""

import functools
from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments import few_shot, headlines, pretraining_page, records, runs
from experiments.few_shot_data import slug
from experiments.few_shot_scores import PIXELS
from experiments.pretraining_data import Classes, Parts, describe, load_parts
from experiments.probing import BATCH, Representation, few_shot_all, few_shot_tasks, probe_all
from metajax import Learner, make_mesh
from metajax.checkpoint import Checkpoints
from metajax.data import Source, examples, in_order, select_rows
from metajax.evaluate import features, neighbour_classes
from metajax.mesh import devices_for, own_share, shard_batch, to_host
from metajax.report import read_metrics
from metajax.train import TrainState, adamw, lars, restore, scaled_rate, start, warmup_cosine
from metajax.types import Batches, Examples

CURVE_KNOWN, CURVE_ASKED, CURVE_NEIGHBOURS = 5000, 2000, 20  # of the k-NN curve during pretraining
SETTLING = 50  # batches that a random encoder's running statistics are taken over


class Setting(NamedTuple):
  """Flags that every pretraining experiment has."""

  data: str = "glyphs"
  """glyphs, omniglot, any TFDS classification set, or pictures of one's own: a folder, a .csv or an .npz file."""
  split: str = ""
  """A named split of the data's classes: lake, vinyals or finn for omniglot."""
  classes: Classes = "auto"
  """Probed on the same classes as pretrained on (the data's own splits), or on unseen ones."""
  download: bool = False
  """Let TFDS download data that is not there."""
  skip_broken: bool = False
  """Leave out files of one's own that cannot be read, rather than stop."""
  min_images_per_class: int = 1
  """Leave out classes that have fewer pictures."""
  size: int = 28
  """Pictures are brought to size x size pixels."""
  batch_size: int = 256
  """Pictures in a step."""
  steps: int = 10000
  """Training steps."""
  optimizer: Literal["lars", "adamw"] = "lars"
  """Without weight decay (and trust ratio) on biases and norms."""
  rate: float = 0.3
  """The rate for a batch of 256 pictures."""
  rate_rule: Literal["linear", "square_root"] = "linear"
  """How the rate grows with the batch."""
  decay: float = 1e-6
  """Weight decay."""
  warmup: int = 500
  """Steps over which the rate rises; it falls along a cosine after them."""
  curve_every: int = 1000
  """Steps between points of the k-NN curve; no label has a say in which step is tested, which is the last."""
  test: tuple[str, ...] = ("5w1s", "5w5s")
  """Few-shot settings to test frozen embeddings at, where there are unseen classes."""
  test_queries: int = 15
  """Query pictures of each class in a test task."""
  test_tasks: int = 1000
  """Test tasks of each setting."""
  devices: int | None = None
  """Devices to share the pictures of a step; by default as many as divide them."""
  seed: int = 0
  """Of the initialisation, the order of the pictures and their views."""
  seeds: int = 1
  """Pretrain as many networks, one after the other, from --seed on; figures are means, with an interval over them."""


def without_labels(source: Source, s, seed: int) -> Batches:
  """Batches of the pictures of a source, or whatever else its inputs are."""
  alike = source._replace(classes=("",), labels=np.zeros_like(source.labels))
  labelled = examples(alike, batch_size=s.batch_size, seed=seed)
  return lambda start=0, shard=(0, 1): (batch.inputs for batch in labelled(start, shard))


class Method(NamedTuple):
  """A way to pretrain, and what is looked at of it.

  Attributes:
    name: of its runs.
    learner: what is pretrained.
    embeddings: `{what is added to the name: embed}`; the first one's key is "", and it is the one of few-shot tasks.
    encoder: the part that is kept.
    figures: `(folder, learner's params and state, parts) -> [(heading, caption, path)]`, the page's first ones.
    load: `setting -> Parts`.
    batches: `(source, setting, seed) -> Batches` of what there is to pretrain on.
    scores: `(the (params, state) of each seed, parts, setting, how) -> records` of its own, beside the probes'.
    choose: `(the (params, state) of each seed, parts) -> Learner`: which features are looked at, by validation
      pictures; of the trained and the random encoder alike.
  """

  name: str
  learner: Learner
  embeddings: dict[str, Callable]
  encoder: object
  figures: Callable
  load: Callable = load_parts
  batches: Callable = without_labels
  scores: Callable | None = None
  choose: Callable | None = None


def experiment(method: Callable[..., Method]) -> Callable:
  """The command of a method: `method(**flags)`, which has flags of its own, a `setting` and a `run`, pretrains."""

  @functools.wraps(method)
  def main(**flags):
    run(method, flags)

  return main


def run(method: Callable[..., Method], flags: dict, checked: bool = False):
  """Pretrains, probes and writes what it found.

  Args:
    method: of a command.
    flags: of the command.
    checked: whether the method itself finds what does not fit pictures of the setting's size, before it loads data.
  """
  s = flags["setting"]
  check(s)
  runs.check(flags["run"])
  made = method(**flags)
  name = f"{made.name}-{slug(s)}".replace(" ", "_")
  this = runs.begin(name, method, flags)
  if not checked:
    encoder = next(iter(made.encoder.values())) if isinstance(made.encoder, dict) else made.encoder
    check_pictures((made.learner if made.batches is without_labels else encoder).init, s)
  parts = made.load(s)
  describe(s, parts)
  if s.batch_size > len(parts.unlabelled.images):
    given = f"{s.batch_size} of {len(parts.unlabelled.images)} pictures"
    raise ValueError(f"expected a --batch-size of at most all pictures, got {given}")
  batches = [made.batches(parts.unlabelled, s, seed) for seed in few_shot.seeds_of(s)]
  example = next(iter(own_share(batches[0])))
  check_init(made.learner, example)
  tasks = few_shot_tasks(parts, s)
  if this.resumed:
    runs.check_same(this)
  device_count = devices_for(s.batch_size, s.devices)
  with jax.set_mesh(make_mesh(device_count, fsdp=this.flags.fsdp)):
    shard_batch(example)
    this = runs.write_configuration(this, device_count)
    trained, seconds, waiting = _pretrain(this, made, parts, batches, s)
    how = {"train_seconds": round(seconds), "steps": s.steps, "devices": device_count, "seed": s.seed}
    print(f"\npretrained for {seconds:.0f} s on {device_count} device(s), {100 * waiting:.1f}% of it waiting for data")
    untrained = [_untrained(made, s, batch, seed) for batch, seed in zip(batches, few_shot.seeds_of(s), strict=True)]
    measured = [] if made.scores is None else made.scores(trained, parts, s, how)
    beside, made = _chosen(made, untrained, parts), _chosen(made, trained, parts)
    shown = [Representation(made.name + more, embed, trained) for more, embed in made.embeddings.items()]
    random = Representation(records.UNTRAINED, beside.learner.embed, untrained)
    pixels = Representation("pixels", PIXELS.learner.embed, [((), ())])
    measured += probe_all([*shown, random, pixels], parts, s, how | {"waiting_for_data": round(waiting, 4)})
    learners = {made.name: (made.learner, trained), records.UNTRAINED: (beside.learner, untrained)}
    measured += few_shot_all(learners, tasks, s, how, parts.episodes)
    records.write(this.folder / "records.json", measured)
    warnings = headlines.warn(this.folder, measured)
    pretraining_page.write(this, made, trained[0], parts, s, measured, warnings)
  print(f"the run's page: {this.folder / 'index.html'}")
  if this.flags.record:
    records.publish(name, measured, this.folder / "figures" / "map.png")


def folder_of(s: Setting, seed: int) -> str:
  """A seed's folder within the run's."""
  return "" if s.seeds == 1 else f"seed-{seed}"


def optimizer(s: Setting) -> optax.GradientTransformation:
  """The setting's, with its schedule."""
  return (lars if s.optimizer == "lars" else adamw)(rate_of(s), decay=s.decay)


def rate_of(s: Setting) -> optax.Schedule:
  """The setting's, for its batch, at each step."""
  return warmup_cosine(scaled_rate(s.rate, s.batch_size, s.rate_rule), s.steps, s.warmup)


def last(learner: Learner, tx: optax.GradientTransformation, s, folder, batches, seed: int, best=False) -> TrainState:
  """What a seed's training ended with, or what its validation chose."""
  with Checkpoints(folder / folder_of(s, seed) / "checkpoints") as checkpoints:
    return restore(learner, tx, batches, checkpoints, seed=seed, best=best)


def train_seeds(this, learner: Learner, tx: optax.GradientTransformation, batches, s, validate: Callable, best=False):
  """What `last` gives of each seed, the seconds that all took, and the share of them that waited for data."""
  trained, seconds, waiting = [], 0.0, []
  for seed, own in zip(few_shot.seeds_of(s), batches, strict=True):
    part = folder_of(s, seed)
    flags = {"validate": validate, "validate_every": s.curve_every, "part": part, "seed": seed}
    _, took = runs.train(this, learner, tx, own, s.steps, rows=s.batch_size, **flags)
    final = last(learner, tx, s, this.folder, own, seed, best)
    trained.append((final.params, final.state))
    seconds += took
    waiting += [row["waiting_for_data"] for row in read_metrics(this.folder / part) if "waiting_for_data" in row]
  return trained, seconds, float(np.mean(waiting or [0.0]))


def check_pictures(init: Callable, s):
  """Finds before data are loaded, without compiling, that pictures of a setting's size do not fit a network.

  Raises:
    ValueError: as `init`, of a learner or a network.
  """
  jax.eval_shape(init, jax.random.key(0), jax.ShapeDtypeStruct((2, s.size, s.size, 3), jnp.float32))


def check_init(learner: Learner, batch):
  """Finds without compiling that a learner cannot be trained on batches like this one, at whose values it looks too."""
  jax.eval_shape(lambda key: learner.init(key, batch), jax.random.key(0))


def _pretrain(this, made: Method, parts: Parts, batches, s: Setting):
  """`train_seeds`, with the accuracy of nearest neighbours for its curve."""
  some, embed = of_curve(parts), made.learner.embed
  validate = lambda params, state: accuracy_of_neighbours(*known_and_asked(embed, params, state, some))
  return train_seeds(this, made.learner, optimizer(s), batches, s, validate)


def of_curve(parts: Parts) -> list:
  """Some training and some validation pictures."""
  return [first(part, n) for part, n in ((parts.train, CURVE_KNOWN), (parts.validation, CURVE_ASKED))]


def known_and_asked(embed: Callable, params, state, some: list) -> list[Examples]:
  """Features of the pictures of `of_curve`."""
  return [features(embed, params, state, in_order(part, batch_size=BATCH)) for part in some]


def accuracy_of_neighbours(known: Examples, asked: Examples) -> float:
  """In percent."""
  (answers,) = neighbour_classes(known, asked.inputs, [min(CURVE_NEIGHBOURS, len(known.labels))]).values()
  return 100 * np.mean(answers == asked.labels)


def _chosen(made: Method, trained: list, parts: Parts) -> Method:
  """The method with the features that are to be looked at."""
  if made.choose is None:
    return made
  learner = made.choose(trained, parts)
  return made._replace(learner=learner, embeddings=made.embeddings | {"": learner.embed})


def first(source, most: int):
  """At most so many pictures of a source, from all over it."""
  rows = np.linspace(0, len(source.labels) - 1, min(most, len(source.labels))).astype(int)
  return select_rows(source, rows)


def _untrained(made: Method, s: Setting, batches, seed: int):
  """What the pretraining started with, but for running statistics, which are those of views, as a trained one's are."""
  stream = iter(own_share(batches))
  before = start(made.learner, optimizer(s), next(stream), seed)
  settle = jax.jit(lambda *given: made.learner.loss(*given)[1][0])
  state = before.state
  for i in range(SETTLING if jax.tree.leaves(state) else 0):
    last, state = state, settle(before.params, state, shard_batch(next(stream)), jax.random.fold_in(before.key, i))
    if all(np.array_equal(to_host(x), to_host(y)) for x, y in zip(*map(jax.tree.leaves, (last, state)), strict=True)):
      break  # it holds no statistics
  return before.params, state


def check(s: Setting):
  """Refuses flags that do not fit each other, before data are loaded.

  Raises:
    ValueError: naming them.
  """
  few_shot.check_seed(s.seed, s.seeds)
  few_shot.tests_of(s)
  if s.warmup >= s.steps:
    raise ValueError(f"expected --warmup to be below the {s.steps} --steps, got {s.warmup}")
  devices = devices_for(s.batch_size, s.devices)
  if s.batch_size % devices:
    raise ValueError(f"expected a --batch-size that {devices} devices divide, got {s.batch_size}")
