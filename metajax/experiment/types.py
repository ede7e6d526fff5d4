"""The records that make up an experiment: read this file first.

An `Experiment` holds the learner, its data and its evaluators; `metajax.experiment.main(build, PRESETS)` turns a
`build(config) -> Experiment` into a command. A config is a NamedTuple of flags and of groups of flags. The driver reads
two of these groups, at any depth: one `Training` and one `RunFlags`.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Protocol

import optax

from metajax.experiment.bounds import BELOW_1, Bounds, Count, MayBeRemote, NotNegative, RunPath, Seed
from metajax.experiment.former_flags import also
from metajax.experiment.precision import Precision
from metajax.train import TrainState
from metajax.types import Batches, Learner, Params, Preprocessing, State

Figure = tuple[str, str, Path]  # heading, caption, a .png or .svg file
Note = Any  # a heading and lines, or a `metajax.report.Swatch`


class RunFlags(NamedTuple):
  """Run folder, checkpoints and records."""

  folder: Annotated[Path | None, MayBeRemote()] = None
  """Folder of the run, also gs://bucket/run; by default a new one in --output, named after the run and the time."""
  resume: bool = False
  """Resume the run in --folder with its flags, from its last good checkpoint; start the run if there is none."""
  output: RunPath = Path("runs")
  """Parent folder of new run folders, also gs://bucket/runs."""
  record: bool = False
  """Write the records and a figure to experiments/results and rebuild experiments/README.md."""
  checkpoint_every: Annotated[int | None, *Count.__metadata__] = None
  """Steps between checkpoints; by default a twentieth of the training steps."""
  keep: Count = 3
  """Number of most recent checkpoints to keep, in addition to the best one."""
  log: tuple[Literal["jsonl", "tensorboard", "csv", "wandb"], ...] = ("jsonl", "tensorboard")
  """Formats of the metrics, in addition to metrics.jsonl, which is always written; "wandb" is Weights & Biases."""
  profile: NotNegative = 0
  """Number of steps to trace for TensorBoard (Profile tab) or Perfetto; 0 for no trace."""
  precision: Precision = "auto"
  """Precision of matrix products: "highest" is float32 on all devices; "default" is TF32 on a GPU and bfloat16 with
  sums in float32 on a TPU; "auto" is "highest" on a CPU, "default" elsewhere."""
  export: bool = True
  """Export the trained model into the folder of the run, for `metajax predict` and `metajax.load`."""
  fsdp: bool = False
  """Shard the parameters and the optimizer state over the devices, instead of replicating them."""
  mesh: tuple[str, ...] = ()
  """Devices along each axis of the mesh, such as data=16 fsdp=4 model=2: batches are sharded over data and fsdp,
  parameters over fsdp, the heads and hidden units of transformers over model."""
  compile_for: tuple[str, ...] = ()
  """Slices of TPUs, such as v5e:4x4, or v5e:4x4 slices=2: compile the training step for them, print whether it fits and
  how long it takes, and stop. No TPU is needed, only the package libtpu."""
  hang_report: NotNegative = 1800
  """Seconds without a step after which every host prints what its threads are doing, and goes on; 0 for never."""
  debug_nans: bool = False
  """Check every step for non-finite values and replay the first bad one, so that the error names the line at fault."""


class Training(NamedTuple):
  """Training steps, seeds and devices."""

  steps: Count = 10000
  """Number of training steps; with --resume, a larger number makes the run longer."""
  eval_every: Annotated[int, *Count.__metadata__, *also("--validate-every", "--curve-every")] = 1000
  """Steps between validations."""
  devices: Annotated[int | None, *Count.__metadata__] = None
  """Number of devices that share each batch; by default the largest number that divides it. A CPU is divided into as
  many devices, by default one a core."""
  seed: Seed = 0
  """First random seed, for the initialization and all random draws in training."""
  seeds: Annotated[int, Bounds(1, 1000)] = 1
  """Number of random seeds to train, from --seed on; results are the mean with a 95% interval over seeds."""
  ema: Annotated[float, Bounds(0, BELOW_1)] = 0.0
  """Decay of a moving average of the parameters, such as 0.9999, which is tested and exported; 0 for none."""
  accumulate: Count = 1
  """Parts of a batch that are computed one after the other, to save memory; statistics of batch norm are of a part."""
  seeds_in_parallel: Annotated[int | None, *Count.__metadata__, *also("--seeds-at-once")] = None
  """Seeds to train in parallel; None trains as many as fit into memory."""


RUN = RunFlags()


def title_of(name: str, variant: Sequence[str]) -> str:
  """The name of a learner with its variant, as in records and tables."""
  return ", ".join((name, *variant))


class Record(NamedTuple):
  """One measured value of a run. Its JSON form is flat and adds the command, the machine and the versions.

  Attributes:
    learner: Name of the method, or of a baseline.
    measure: Name of the measure: `accuracy`, `linear_probe`, `bits_per_token`, ...
    value: Measured value; percentages are 0 to 100.
    interval: Half-width of the 95% interval; None or infinite for a single score.
    variant: Distinguishes learners of one method, such as `("distorted",)`.
    published: Value reported in the paper, or None.
    about: Further entries on the data, the test and the training, by their JSON keys.
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
    """The learner with its variant, as in JSON and in tables."""
    return title_of(self.learner, self.variant)


class Trained(NamedTuple):
  """The result of a training.

  Attributes:
    states: TrainState of each seed, at the best validation or at the last step.
    learner: Trained learner; its features may have been chosen after training.
    seconds: Training time of all seeds together.
    steps: Training steps per seed.
    devices: Number of devices that shared a batch.
    seed: First seed.
    waiting: Fraction of the training time spent waiting for data.
    batches: Batches of each seed.
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
    """Entries on the training in the records."""
    took = round(self.seconds)
    return {"train_seconds": took, "steps": self.steps, "devices": self.devices, "seed": self.seed}

  @property
  def said_untrained(self) -> dict[str, Any]:
    """Entries on the training in the records of baselines, which are not trained."""
    return {"train_seconds": 0, "steps": 0, "seed": self.seed}


class Evaluator(Protocol):
  """Evaluates a trained learner, prints a table, and returns the records."""

  def __call__(self, trained: Trained, /) -> list[Record]: ...


def no_figures(folder: Path, trained: Trained, records: list[dict]) -> list[Figure]:
  """Draws no figures besides the learning curves, which every run has."""
  return []


def no_notes(trained: Trained, records: list[dict]) -> list[Note]:
  """Returns no notes for the page."""
  return []


class Experiment(NamedTuple):
  """A learner with its data, optimizer and evaluators.

  Attributes:
    name: Name of the run folder and of the published records, such as "maml-omniglot".
    learner: Learner to train.
    optimizer: Outer optimizer.
    train_batches: `seed -> Batches`.
    evaluate: Evaluators; each prints a table and returns records.
    validate: `(params, state) -> score`, larger is better, called every `eval_every` steps.
    keep: Step to evaluate: the one with the "best" validation score, or the "last".
    figures: `(folder, trained, records) -> [(heading, caption, path)]`, drawn into the folder, in addition to the
      learning curves. The first figure is published with the records.
    notes: `(trained, records) -> notes` for the page.
    artifacts: `{file name: write(path)}`: files that a later use of the run needs in addition to its checkpoints.
    title: Title of the page; by default the name.
    check: `(shapes of (params, state), a batch)`: raises for inconsistent data, before anything is written.
    choose: `states -> Learner`: selects the evaluated features by validation data.
    deployed: Learner to export, by default the trained one; its predictions should not depend on the other queries.
    said: Entries of `run.json` in addition to the flags.
    accumulate: How the flag `--accumulate` computes a batch in parts: by the train step, as the loss is a mean over
      rows; the learner does "itself"; or not, as rows meet in the loss.
    preprocessing: How the publisher of an encoder resizes images, for the export; None for images squashed to a square.
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
  deployed: Learner | None = None
  said: Mapping[str, Any] = {}
  preprocessing: Preprocessing | None = None
  accumulate: Literal["parts", "itself", "no"] = "parts"
