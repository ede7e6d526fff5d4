"""Every flag of every command is looked at before data are loaded: one line, status 2, nothing written, at once."""

import importlib
import sys
import time
from pathlib import Path
from typing import Annotated, NamedTuple, get_args

import pytest
from commands import run_command

import experiments
from experiments import one_shot, relation, reweighting
from experiments.families import data
from experiments.families.image_text import data as image_text
from experiments.families.language import corpus
from experiments.families.pretext import data as pretext
from metajax.experiment import RUN, RunFlags, bounds, command_line, flags, run_folder
from metajax.experiment.bounds import Bounds

OF_RUNS = (
  "evaluate",
  "few_labels",
  "one_shot",
  "fine_tune",
  "predict",
  "zero_shot",
)  # which end as there is no run in "none"
SMALL = {  # so that what is built before data are loaded is built soon
  "clip": ["--size", "32", "--text-width", "64", "--text-layers", "1", "--encoder-name", "conv4"],
  "simclr": ["--size", "32", "--encoder-name", "conv4"],
  "pretext": ["--size", "32", "--encoder-name", "conv4", "--permutations", "24"],
  "generative": [*["--size", "32", "--width", "64", "--num-heads", "4", "--num-layers", "1"],
                 *["--decoder-width", "32", "--decoder-layers", "1"]],
  **{name: ["none"] for name in OF_RUNS},
  "predict": ["none", "--support", "none", "--images", "none"],
  "zero_shot": ["none", "--classes", "cat", "dog", "--images", "none"],
}  # fmt: skip
VALUES = ("-1", "0", str(10**23), "nan", "inf", "abc", "1e-320")
LOADERS = (
  (data, "load"),
  (image_text, "load_captioned"),
  (pretext, "load_recordings"),
  (corpus, "load_texts"),
  (reweighting, "load"),
  (one_shot, "load"),
  (run_folder, "write_configuration"),
)
SECONDS = 10


class Reached(BaseException):
  """The command has come as far as loading data."""


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
  """Runs a command until it would load data: None if it came so far, else its error, of which the law is checked."""

  def load(*given, **more):
    raise Reached

  for module, name in LOADERS:
    monkeypatch.setattr(module, name, load)
  monkeypatch.chdir(tmp_path)

  def run(name, *arguments):
    module = importlib.import_module(f"experiments.{name}")
    small = SMALL.get(name, ["--filters", "4"] if "filters" in flags.kinds_of(flags_of(module)) else [])
    monkeypatch.setattr(sys, "argv", [name, *small, *arguments])
    began = time.process_time()
    try:
      run_command(module)
    except Reached:
      return None
    except SystemExit as stop:
      error = capsys.readouterr().err
      law = stop.code == 2 and error.startswith("error: ") and error.count("\n") == 1 and len(error) < 500
      assert law, f"{name} {arguments}: {stop.code} {error}"
      return error
    finally:
      assert time.process_time() - began < SECONDS, f"{name} {arguments}"
      assert not list(tmp_path.iterdir()), f"{name} {arguments}"
    raise AssertionError(f"{name} {arguments}: it neither loaded data nor ended")

  return run


def flags_of(module):
  """A module's config, or the function whose arguments are its flags."""
  return module.Config if hasattr(module, "Config") else module.main


def numbers_of(name, seen=()):
  """The numeric flags of a command, but those of groups that were seen."""
  command = flags_of(importlib.import_module(name))
  groups = [kind for kind in flags.hints_of(command).values() if hasattr(kind, "_fields")]
  shared = {field for group in groups if group in seen for field in group._fields}
  kinds = {field: kind for field, kind in flags.kinds_of(command).items() if field not in shared}
  return [field for field, kind in kinds.items() if {int, float} & set(flags.wanted(kind))], groups


WITHOUT_FLAGS = {"experiments.launch_local", "experiments.results"}


def sweep():
  """`{command: its numeric flags}`, each of a group that several commands have in the first of them alone."""
  found, seen = {}, []
  for name in sorted(set(experiments.commands()) - WITHOUT_FLAGS):
    found[name.rpartition(".")[2]], groups = numbers_of(name, seen)
    seen += groups
  return found


SWEEP = sweep()


def test_the_sweep_is_of_400_values_at_least_and_of_every_command():
  assert len(VALUES) * sum(map(len, SWEEP.values())) >= 400 and len(SWEEP) == 34


@pytest.mark.slow
@pytest.mark.parametrize("command", SWEEP)
def test_any_number_is_refused_in_one_line_or_the_run_gets_as_far_as_loading_data(run, command):
  assert run(command) is None or command in OF_RUNS
  for name in SWEEP[command]:
    for value in VALUES:
      error = run(command, f"--{name.replace('_', '-')}", value)
      shown = {value, value if value == "abc" else str(float(value))}
      assert error is None or command in OF_RUNS or any(one in error for one in shown), error


@pytest.mark.parametrize(
  ("command", "given", "said"),
  [
    ("clip", "--width 0", "expected --width to be at least 0.015625, got 0.0"),
    ("clip", "--width inf", "expected --width to be at most 64, got inf"),
    ("clip", "--text_layers 1e23", "expected --text-layers to be a whole number, got '1e23'"),
    ("clip", f"--text-layers {10**23}", f"expected --text-layers to be at most 1000, got {10**23}"),
    ("clip", "--test-queries -1", "expected --test-queries to be at least 1, got -1"),
    ("clip", "--chunk 3 --encoder-name vit_ti", "expected a --chunk that divides the --batch-size"),
    ("clip", "--num-outputs -1", "expected --num-outputs to be at least 1, got -1"),
    ("clip", "--test 1w1s", "expected a test setting such as 5w1s, got '1w1s'"),
    ("simclr", f"--num-layers {10**23}", f"expected --num-layers to be at most 1000, got {10**23}"),
    ("simclr", "--warmup-steps 9 --steps 9", "expected --warmup-steps to be below the 9 --steps, got 9"),
    ("simclr", "--batch-size 9 --devices 2", "expected a --batch-size that 2 devices divide, got 9"),
    ("simclr", "--encoder-name vit_ti --patch 5", "divide into patches of 5"),
    ("pretext", "--task jigsaw --gap 9", "expected tiles of at least 2 pixels a side"),
    ("generative", "--model image_gpt --heads 3", "a width divisible by the number of heads"),
    ("generative", "--model gpt --optimizer adamw --dropout 1", "expected --dropout below 1, got 1.0"),
    ("generative", "--temperature 1e-39", "not 0 in 32 bits, got 1e-39"),
    ("maml", f"--filters {10**23}", f"expected --filters to be at most 65536, got {10**23}"),
    ("maml", f"--tasks {10**23}", f"expected --meta-batch-size to be at most 2147483647, got {10**23}"),
    ("maml", f"--size {10**23}", f"expected --size to be at most 4096, got {10**23}"),
    ("maml", "--learning-rate 1e-320", "expected --learning-rate above 0, got 1e-320"),
    ("maml", "--head fixed --test 5w1s 3w1s", "expected logits [3, 3] for labels of 3 ways, got [3, 5]"),
    ("maml", "--tasks 3 --devices 2", "expected --meta-batch-size that 2 devices divide, got 3"),
    ("prototypical", "--size 8", "expected images of at least 16 x 16 to halve 4 times, got 8 x 8"),
    ("siamese", "--size 8", "expected --size to be at least 16, got 8"),
    ("siamese", "--pairs batch --each 100", "expected --each to be at most half of the 128 images, got 100"),
    ("maml", "--devices 9", "expected --devices of 1 to 8 devices, which there are, got 9"),
    ("maml", "--ways five", "expected --ways to be a whole number, got 'five'"),
    ("maml", f"--ways {'9' * 5000}", "expected --ways to be a whole number, got '9999"),
    ("maml", "--learning-rate fast", "expected --learning-rate to be a number, got 'fast'"),
    ("maml", "--head foot", "expected --head to be one of fixed, repeated, zeros, got 'foot'"),
    ("maml", "--ways", "Missing value for argument '--ways'"),
    ("maml", "--inner-step 3", "unknown flag '--inner-step': did you mean --inner-steps?"),
    ("maml", "--qqqqq 3", "unknown flag '--qqqqq': --help lists all"),
    ("maml", "--presett cpu", "unknown flag '--presett': did you mean --preset?"),
    ("maml", "--download maybe", "got 'maybe' beside them"),
    ("maml", "--tyro-write-completion bash victim", "unknown flag '--tyro-write-completion'"),
    (
      "maml",
      "--folder s3://bucket/run",
      "--folder to be a path on this machine, or of gs://, got 's3:/bucket/run'",
    ),
    (
      "maml",
      "--output ftp://host/runs",
      "--output to be a path on this machine, or of gs://, got 'ftp:/host/runs'",
    ),
    ("maml", f"--folder {'x' * 300}", "--folder to be a path whose names have at most 255 bytes"),
    ("maml", f"--data {'x' * 300}", "parts have at most 255 bytes, got one of 300"),
    ("maml", "--folder ~nobody-of-this-name/run", "expected --folder to be a path on this machine"),
    ("evaluate", f"--modules {'x' * 300} --tasks 1", "expected --num-tasks to be at least 2, got 1"),
    ("fine_tune", "--labels 0.1 nan", "expected --labels above 0, got nan"),
    ("reweighting", "--seed 4294967295", "expected --seed to be at most 2**32 - 10"),
    ("sinusoid", "--hidden 40 0", "expected --hidden to be at least 1, got 0"),
    (
      "maml",
      "--data foo://bucket/set",
      "on this machine, or of gs://, got 'foo://bucket/set': copy it to a disk",
    ),
    ("clip", "--data s3://bucket/captions.csv", "a path on this machine, or of gs://, got 's3://bucket/captions.csv'"),
    ("zero_shot", "--images gs://bucket/x", "expected --images to be a path on this machine, got 'gs:/bucket/x'"),
    ("zero_shot", "--top 0", "expected --top to be at least 1, got 0"),
  ],
)
def test_a_flag_is_refused_before_data_are_loaded(run, command, given, said):
  assert said in (run(command, *given.split()) or "it was not")


class Own(NamedTuple):
  """A config of one's own, with a flag that has bounds, others that have none, and a group that all have."""

  width: int = -5
  rate: float = -1.0
  share: Annotated[float, Bounds(0, 1)] = 0.5
  run: RunFlags = RUN


def test_flags_of_ones_own_have_the_bounds_that_they_say_and_else_are_finite():
  kinds, own = flags.hints_of(Own), Own()._asdict()
  assert bounds.check(kinds, own) == own
  for more, said in (
    ({"rate": float("nan")}, "expected --rate to be a finite number, got nan"),
    ({"width": 10**23}, "expected --width to be at most 2147483647"),
    ({"share": 2.0}, "expected --share to be at most 1, got 2.0"),
    ({"run": RUN._replace(keep=0)}, "expected --keep to be at least 1, got 0"),
  ):
    with pytest.raises(ValueError, match=said):
      bounds.check(kinds, own | more)


@pytest.mark.parametrize(("switches", "value"), [([], "none"), (["--distort"], "affine"), (["--no-distort"], "none")])
def test_a_former_switch_is_the_flag_and_the_value_that_it_stood_for(switches, value):
  assert command_line.parse(relation.build, relation.PRESETS, switches).setup.images.augmentation == value


def test_every_number_that_a_command_takes_has_bounds_of_its_own():
  for name in SWEEP:
    kinds = flags.kinds_of(flags_of(importlib.import_module(f"experiments.{name}")))
    numbers = {field: kind for field, kind in kinds.items() if {int, float} & set(flags.wanted(kind))}
    said = {field: any(isinstance(one, Bounds) for one in get_args(kind)) for field, kind in numbers.items()}
    assert all(said.values()), f"{name}: {[field for field, known in said.items() if not known]}"


def test_a_home_folder_is_found(monkeypatch, tmp_path):
  monkeypatch.setenv("HOME", str(tmp_path))
  run = RUN._replace(folder=Path("~/run"), output=Path("~/runs"))
  found = bounds.check({"data": bounds.DataSource}, {"data": "~/photos", "run": run})
  assert found["data"] == str(tmp_path / "photos")
  assert (found["run"].folder, found["run"].output) == (tmp_path / "run", tmp_path / "runs")
