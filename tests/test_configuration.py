"""What a run's folder says is data: nothing that it names is run, and no odd content ends in a traceback."""

import contextlib
import json
import os
import sys
from typing import Annotated, Literal, NamedTuple

import pytest
from commands import run_command

import experiments
from experiments import evaluate, maml, one_shot
from experiments.families.few_shot import finished
from experiments.families.few_shot.config import Setup
from metajax.experiment import FinishedRun, RunFlags, Training, driver, read_run, records
from metajax.experiment.former_flags import Former, also
from metajax.experiment.groups import group_of
from metajax.experiment.run_folder import Run, check_same

GOOD = {"experiment": "experiments.maml", "arguments": [], "flags": {}, "sessions": []}
DEEP = "[" * 100_000
ODD = (None, 7, "x", ["x"], {"x": 1})


def is_like(value, good):
  """Whether it may stand for what is good, as far as its type says."""
  return type(value) is type(good) and not (value == ["x"] and good == [])


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
  """The one line that a command ends with."""
  monkeypatch.chdir(tmp_path)
  monkeypatch.syspath_prepend(tmp_path)

  def run(module, *arguments):
    monkeypatch.setattr(sys, "argv", [module.__name__, *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
      run_command(module)
    said = capsys.readouterr()
    assert stop.value.code == 2 and said.err.count("\n") == 1 and not said.out, said
    return said.err

  return run


def folder_of(tmp_path, said):
  folder = tmp_path / "runs" / "evil"
  folder.mkdir(parents=True, exist_ok=True)
  (folder / "run.json").write_text(said if isinstance(said, str) else json.dumps(said))
  return folder


@pytest.mark.parametrize("name", ["runs.evil.payload", "payload", "os", "experiments.runs", "experiments", "..payload"])
def test_a_module_that_a_folder_names_is_not_imported(run, tmp_path, name):
  folder = folder_of(tmp_path, GOOD | {"experiment": name})
  for place in (folder, tmp_path):
    (place / "payload.py").write_text("from pathlib import Path\nPath('hit').touch()\n")
  assert f"expected --modules to name the module of the run in '{folder}', got a run of {name!r}" in run(
    evaluate, folder
  )
  assert "got" in run(one_shot, folder) and not (tmp_path / "hit").exists()


def test_a_module_of_ones_own_is_imported_where_the_command_line_names_it(run, tmp_path):
  folder = folder_of(tmp_path, GOOD | {"experiment": "own_experiment"})
  (tmp_path / "own_experiment.py").write_text("from experiments.maml import PRESETS, build\n")
  assert "got a run of 'own_experiment', which it does not name" in run(evaluate, folder)
  assert "own_experiment" not in sys.modules
  assert read_run(folder, ["own_experiment"]).config.inner.inner_learning_rate == 2.0
  del sys.modules["own_experiment"]


def test_the_commands_of_this_package_are_those_of_its_files():
  found = experiments.commands()
  assert {"experiments.maml", "experiments.clip", "experiments.sinusoid"} <= set(found)
  assert all(found.values()) and not any(name.startswith("experiments.families") for name in found)


@pytest.mark.parametrize(
  "said",
  [
    "{",
    DEEP,
    '{"a":' * 100_000,
    "7",
    "[]",
    "null",
    *(
      GOOD | {name: value}
      for name, of in GOOD.items()
      for value in (None, 7, "x", ["x"], {"x": 1})
      if not is_like(value, of)
    ),
    GOOD | {"channels": "3"},
    GOOD | {"channels": 0},
    GOOD | {"seeds_at_once": True},
    GOOD | {"arguments": ["--help"]},
    GOOD | {"arguments": [7]},
    GOOD | {"arguments": ["--nonsense"]},
    GOOD | {"arguments": ["--ways", "many"]},
    GOOD | {"arguments": ["--tyro-write-completion", "bash", "victim"]},
    GOOD | {"arguments": ["--budget", "huge"]},
  ],
  ids=lambda said: str(said)[:40],
)
def test_odd_content_is_one_line_that_names_the_folder(run, tmp_path, said):
  folder = folder_of(tmp_path, said)
  assert "evil" in run(evaluate, folder)
  run(maml, "--folder", folder, "--resume")
  assert sorted(os.listdir(tmp_path)) == ["runs"] and os.listdir(folder) == ["run.json"]


@pytest.mark.parametrize("said", [DEEP, "{}", "7", "[7]", '[{"train_seconds": "many"}]', '[{"learner": "maml"}]', "[]"])
def test_odd_records_are_refused_by_name(tmp_path, said):
  (tmp_path / "records.json").write_text(said)
  run = finished.FewShotRun(FinishedRun(tmp_path, None, None, {}), Setup(), None, None)
  with pytest.raises(ValueError, match=str(tmp_path)):
    finished.seconds([run])


def test_a_run_of_pretraining_is_no_few_shot_run(run, tmp_path):
  folder = folder_of(tmp_path, GOOD | {"experiment": "experiments.simclr"})
  assert "and others, got one of experiments.simclr" in run(evaluate, folder)
  folder = folder_of(tmp_path, GOOD | {"experiment": "experiments.evaluate"})
  assert "expected a run of an experiment" in run(evaluate, folder)


class Both(NamedTuple):
  """Groups in a group."""

  training: Training
  run: RunFlags


class Config(NamedTuple):
  """Flags, and groups of them."""

  rate: float
  first: tuple
  second: tuple | None = None


def test_a_group_of_flags_is_found_by_its_type_wherever_it_stands():
  training, flags = Training(steps=7), RunFlags(keep=2)
  for config in (Both(training, flags), Config(0.1, Both(training, flags)), Config(0.1, flags, training)):
    assert group_of(config, Training) is training and group_of(config, RunFlags) is flags


@pytest.mark.parametrize(
  ("config", "count", "there"),
  [
    (Config(0.1, RunFlags()), 0, "rate, first, second"),
    (Config(0.1, Training(), Both(Training(), RunFlags())), 2, "rate, first, second"),
    ({"training": Training()}, 0, "dict"),
  ],
)
def test_a_config_without_its_group_of_flags_or_with_two_is_refused_by_their_type(config, count, there):
  with pytest.raises(ValueError, match=rf"expected one Training in the config, got {count} \(Config has: {there}\)"):
    driver.run(lambda config: None, config)


class Augmented(NamedTuple):
  """Flags of which one was a switch, and one had another name."""

  augmentation: Annotated[Literal["none", "affine"], Former("--distort", "affine")] = "none"
  learning_rate: Annotated[float, *also("--rate")] = 0.1


@pytest.mark.parametrize(
  ("before", "message"),
  [
    ({"distort": False, "rate": 0.1}, None),
    ({"distort": True, "rate": 0.1}, "expected --augmentation affine, .* got none"),
    ({"distort": False, "rate": 0.2}, "expected --learning-rate 0.2, .* got 0.1"),
    ({}, None),  # flags that came later
  ],
)
def test_flags_of_a_run_of_before_are_compared_by_their_names_of_then(tmp_path, before, message):
  run = Run(folder_of(tmp_path, GOOD | {"flags": before}), RunFlags(), True, GOOD | {"flags": Augmented()._asdict()})
  with pytest.raises(ValueError, match=message) if message else contextlib.nullcontext():
    check_same(run, Augmented())


@pytest.mark.parametrize(
  ("before", "now", "message"),
  [("highest", "auto", None), ("auto", "highest", None), ("highest", "default", "--precision highest, .* got default")],
)
def test_a_run_of_a_precision_is_resumed_with_a_word_that_means_the_same_here(tmp_path, before, now, message):
  folder = folder_of(tmp_path, GOOD | {"flags": {"precision": before}})
  run = Run(folder, RunFlags(), True, GOOD | {"flags": {"precision": now}})
  with pytest.raises(ValueError, match=message) if message else contextlib.nullcontext():
    check_same(run, RunFlags())


def test_a_byte_that_is_no_utf8_is_read_back_as_it_was(tmp_path):
  path = tmp_path / "records.json"
  records.write(path, [{"data": "caf\udce9"}])
  assert records.read(path) == [{"data": "caf\udce9"}]


def test_records_of_earlier_versions_are_read_by_todays_names(tmp_path):
  path, record = tmp_path / "r.json", {"measure": "text_to_picture_at_5", "split": "test, pictures apart", "value": 1.0}
  path.write_text(json.dumps([record]))
  now = {"measure": "text_to_image_at_5", "split": "test, held-out images", "value": 1.0}
  assert records.read(path) == [now] and list(records.read(path)[0]) == list(record)


def test_help_into_a_program_that_has_ended_is_quiet(monkeypatch, capfd):
  read, write = os.pipe()
  os.close(read)
  with os.fdopen(write, "w") as nobody, monkeypatch.context() as patch:
    patch.setattr(sys, "stdout", nobody)
    patch.setattr(sys, "argv", ["maml", "--help"])
    with pytest.raises(SystemExit) as stop:
      driver.main(maml.build, maml.PRESETS)
  assert stop.value.code == 128 + 13 and capfd.readouterr() == ("", "")
