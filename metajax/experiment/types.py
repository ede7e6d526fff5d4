"""The records that an experiment is made of: read this file first.

An `Experiment` is what is trained, on what, and how it is judged; `metajax.experiment.main(build, PRESETS)` makes a
command of a `build(config) -> Experiment`. A config is a NamedTuple of flags and of groups of flags, two of which the
driver reads, wherever they stand: one `Training` and one `RunFlags`.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Protocol

import optax

from metajax.experiment.bounds import Bounds, Count, NotNegative, Seed
from metajax.experiment.former_flags import also
from metajax.train import TrainState
from metajax.types import Batches, Learner, Params, State

Figure = tuple[str, str, Path]  # heading, caption, a .png or .svg file
Note = Any  # a heading and lines, or a `metajax.report.Swatch`


class RunFlags(NamedTuple):
  """Flags that every experiment has."""

  folder: Path | None = None
  """The run's own folder; by default one named after the run and the time, in --output."""
  resume: bool = False
  """Go on with the run in --folder, with its flags, from its last good checkpoint; start it where there is none."""
  output: Path = Path("runs")
  """Folder in which runs have their folders."""
  record: bool = False
  """Write records and image to experiments/results and rebuild experiments/README.md."""
  checkpoint_every: Annotated[int | None, *Count.__metadata__] = None
  """Steps between checkpoints; by default a twentieth of the training."""
  keep: Count = 3
  """How many of the newest checkpoints to keep; the best is kept beside them."""
  profile: NotNegative = 0
  """Trace this many steps, for TensorBoard (its Profile tab) or Perfetto."""
  precision: Literal["highest", "high", "default"] = "highest"
  """Of matrix products: "highest" agrees between CPU, GPU and TPU; "default" is TF32 or bfloat16 there, and faster."""
  fsdp: bool = False
  """Share the parameters and the optimizer's state between the devices too, rather than keep a copy on each."""
  debug_nans: bool = False
  """Look at every step, and replay the first that is not finite: the error then points at the line that made it."""


class Training(NamedTuple):
  """How long and how often an experiment trains."""

  steps: Count = 10000
  """Training steps."""
  eval_every: Annotated[int, *Count.__metadata__, *also("--validate-every", "--curve-every")] = 1000
  """Steps between validations."""
  devices: Annotated[int | None, *Count.__metadata__] = None
  """Devices to share a step's tasks or examples; by default as many as divide them."""
  seed: Seed = 0
  """Of the initialization and of what is drawn in training."""
  seeds: Annotated[int, Bounds(1, 1000)] = 1
  """Train as many networks, from --seed on; the figures are their mean, with an interval over them."""
  seeds_in_parallel: Annotated[int | None, *Count.__metadata__, *also("--seeds-at-once")] = None
  """How many of them train side by side; by default as many as the memory allows."""


RUN = RunFlags()


def title_of(name: str, variant: Sequence[str]) -> str:
  """A learner with what sets it apart from others of its method, as records and tables have it."""
  return ", ".join((name, *variant))


class Record(NamedTuple):
  """One figure that a run measured. In JSON it is flat, with the command, the machine and the versions.

  Attributes:
    learner: what was measured, by its method's name, or a baseline.
    measure: what of it: `accuracy`, `linear_probe`, `bits_per_token`, ...
    value: percentages are 0 to 100.
    interval: half the width of its 95% interval; None, or infinite, of one score alone.
    variant: what sets this learner apart from others of its method, such as `("distorted",)`.
    published: the paper's figure, where there is one.
    about: what else there is to say of the data, the test and the training, by the keys that JSON has.
  """

  learner: str
  measure: str
  value: float
  interval: float | None
  variant: tuple[str, ...] = ()
  published: float | None = None
  about: Mapping[str, Any] = {}

  @property
  def name(self) -> str:
    """The learner with its variant, as JSON and tables have it."""
    return title_of(self.learner, self.variant)


class Trained(NamedTuple):
  """What a training ended with, and how it went.

  Attributes:
    states: a TrainState for each seed: the one of the best validation, or of the last step.
    learner: what was trained, perhaps with features that were chosen after it.
    seconds: that all seeds took together.
    steps: of each seed.
    devices: that shared a step.
    seed: the first one.
    waiting: the share of the time that waited for data.
    batches: of each seed.
  """

  states: Sequence[TrainState]
  learner: Learner
  seconds: float
  steps: int
  devices: int
  seed: int
  waiting: float
  batches: Sequence[Batches]

  @property
  def said(self) -> dict[str, Any]:
    """What records say of it."""
    took = round(self.seconds)
    return {"train_seconds": took, "steps": self.steps, "devices": self.devices, "seed": self.seed}

  @property
  def said_untrained(self) -> dict[str, Any]:
    """What records say of baselines beside it, which learn nothing."""
    return {"train_seconds": 0, "steps": 0, "seed": self.seed}


class Evaluator(Protocol):
  """Measures what was trained, prints a table of it, and gives the records."""

  def __call__(self, trained: Trained, /) -> list[Record]: ...


def no_figures(folder: Path, trained: Trained, records: list[dict]) -> list[Figure]:
  """Those of an experiment that draws none but its learning curves."""
  return []


def no_notes(trained: Trained, records: list[dict]) -> list[Note]:
  """Those of an experiment whose page has none."""
  return []


class Experiment(NamedTuple):
  """What is trained, on what, and how it is judged.

  Attributes:
    name: of the run's folder and of the published records, such as "maml-omniglot".
    learner: what is trained.
    optimizer: the outer one.
    train_batches: `seed -> Batches`.
    evaluate: each measures something, prints its table and gives records.
    validate: `(params, state) -> score`, the larger the better, every `eval_every` steps.
    keep: which step is evaluated: that of the "best" validation, or the "last".
    figures: `(folder, trained, records) -> [(heading, caption, path)]`, drawn into the folder; the learning curves come
      with every run. The first one is published with the records.
    notes: `(trained, records) -> notes` of the page.
    artifacts: `{file name: write(path)}`, what a run's folder needs beside its checkpoints to be used again.
    title: of the page; by default the name.
    check: `(shapes of (params, state), a batch)`: refuses what does not fit, before anything is written.
    choose: `states -> Learner`: which features are evaluated, by validation data.
    said: what `run.json` says of the run beside its flags.
  """

  name: str
  learner: Learner
  optimizer: optax.GradientTransformation
  train_batches: Callable[[int], Batches]
  evaluate: tuple[Evaluator, ...]
  validate: Callable[[Params, State], float] | None = None
  keep: Literal["best", "last"] = "last"
  figures: Callable[[Path, Trained, list[dict]], list[Figure]] = no_figures
  notes: Callable[[Trained, list[dict]], list[Note]] = no_notes
  artifacts: Mapping[str, Callable[[Path], None]] = {}
  title: str = ""
  check: Callable[[Any, Any], object] | None = None
  choose: Callable[[Sequence[TrainState]], Learner] | None = None
  said: Mapping[str, Any] = {}
