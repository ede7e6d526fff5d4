"""Loggers of metrics: a table, events, Weights & Biases, several joined; each resumes without a gap or a repeat."""

import csv
import io
import math
import sys
import types

import jax
import pytest
from test_report_metrics import expected, scalars, write

from metajax.experiment import RunFlags, run_folder
from metajax.report import csv_log, jsonl_log, log_to, metrics_log, read_metrics, tensorboard_log, wandb_log


@pytest.fixture(autouse=True)
def tensorboard_without_tensorflow(monkeypatch):
  monkeypatch.setitem(sys.modules, "tensorboard.compat.notf", types.ModuleType("notf"))


def table(path):
  """The rows of a CSV file as numbers, without empty cells."""
  rows = csv.DictReader(io.StringIO(path.read_text(), newline=""))
  return [{name: float(cell) for name, cell in row.items() if cell} for row in rows]


def logged(opened, steps, metrics=None):
  with opened as log:
    for step in steps:
      log(step, metrics or {"loss": 1 / step})


def test_a_table_holds_every_float_exactly_and_a_column_for_each_metric(tmp_path):
  path = tmp_path / "new" / "metrics.csv"
  with csv_log(path) as log:
    log(1, {"loss": 0.1, "b, c": math.nan})
    log(2, {"loss": 1 / 3, "validation": 97.5})
    log(3, {"loss": 5e-324, "up": math.inf, "validation": -0.0})
  first, second, third = table(path)
  assert path.read_text().splitlines()[0] == 'step,time,loss,"b, c",validation,up'
  assert math.isnan(first.pop("b, c")) and {name: first[name] for name in ("step", "loss")} == {"step": 1, "loss": 0.1}
  assert (second["loss"], second["validation"], set(second)) == (1 / 3, 97.5, {"step", "time", "loss", "validation"})
  assert (third["loss"], third["up"], str(third["validation"])) == (5e-324, math.inf, "-0.0")


def test_a_resumed_table_keeps_rows_unchanged_up_to_the_checkpoint(tmp_path):
  path = tmp_path / "metrics.csv"
  logged(csv_log(path), [10, 20, 30], {"loss": 0.1, "rare": 2.0})
  before = path.read_text().splitlines()
  logged(csv_log(path, after=20), [30, 40])
  assert path.read_text().splitlines()[:3] == before[:3]
  assert [row["step"] for row in table(path)] == [10, 20, 30, 40] and table(path)[2]["loss"] == 1 / 30


def test_a_row_of_a_table_cut_short_is_left_out(tmp_path):
  path = tmp_path / "metrics.csv"
  logged(csv_log(path), [10, 20])
  path.write_bytes(path.read_bytes()[:-3])  # the cut float is another number
  logged(csv_log(path, after=20), [20])
  assert [(row["step"], row["loss"]) for row in table(path)] == [(10, 0.1), (20, 0.05)]


@pytest.mark.parametrize("content", ["path,label\na.png,1\n", "notes"])
def test_another_table_is_never_overwritten(tmp_path, content):
  path = tmp_path / "labels.csv"
  path.write_text(content)
  with pytest.raises(ValueError, match=r"expected a table of metrics, step,time,\.\.\., in .*labels\.csv"):
    logged(csv_log(path), [1])
  assert path.read_text() == content


def test_resumed_events_keep_those_up_to_the_checkpoint_without_other_files(tmp_path):
  logged(tensorboard_log(tmp_path), [10, 20, 30])
  before = scalars(tmp_path)["loss"]
  (path,) = tmp_path.iterdir()
  path.write_bytes(path.read_bytes()[:-5])  # of a killed process
  logged(tensorboard_log(tmp_path, after=20), [30, 40])
  after = scalars(tmp_path)["loss"]
  assert after[:2] == before[:2] and [step for step, *_ in after] == [10, 20, 30, 40]
  assert len(list(tmp_path.iterdir())) == 1


def test_every_format_of_a_run_has_the_same_rows_even_one_that_is_added_on_resume(tmp_path):
  with metrics_log(tmp_path, formats=()) as log:
    log(10, {"loss": 0.5})
  with metrics_log(tmp_path, after=10, formats=("tensorboard", "csv")) as log:
    log(20, {"loss": 0.25, "validation": 97.5})
  rows = read_metrics(tmp_path)
  assert [row["step"] for row in rows] == [10, 20]
  assert table(tmp_path / "metrics.csv") == rows and scalars(tmp_path) == expected(rows)


def test_lines_alone_are_those_of_the_run_s_log(tmp_path):
  logged(jsonl_log(tmp_path), [10])
  assert [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl"] and read_metrics(tmp_path)[0]["loss"] == 0.1


def test_joined_loggers_are_called_in_order_with_every_row(tmp_path):
  seen = []
  with jsonl_log(tmp_path) as lines, csv_log(tmp_path / "metrics.csv") as rows:
    log_to(lines, lambda step, metrics: seen.append((step, metrics)), rows)(7, {"loss": 0.5})
  assert seen == [(7, {"loss": 0.5})]
  assert read_metrics(tmp_path)[0]["loss"] == table(tmp_path / "metrics.csv")[0]["loss"] == 0.5


def test_a_context_manager_that_is_not_entered_is_no_logger(tmp_path):
  with pytest.raises(TypeError, match=r"expected a logger to be a function .*, got a context manager: use `with"):
    log_to(jsonl_log(tmp_path))


def test_on_other_hosts_nothing_is_written(tmp_path, monkeypatch):
  monkeypatch.setattr(jax, "process_index", lambda: 1)
  logged(csv_log(tmp_path / "metrics.csv"), [1])
  logged(tensorboard_log(tmp_path), [1])
  logged(wandb_log(), [1])
  write(tmp_path, [1])
  assert not list(tmp_path.iterdir())


class Recorded:
  """Records what a run of Weights & Biases is given; it has the steps below `starting_step`."""

  def __init__(self, starting_step=0):
    self.starting_step, self.rows, self.status, self.given = starting_step, [], None, None

  def log(self, metrics, step):
    self.rows.append((step, metrics))

  def finish(self, exit_code):
    self.status = exit_code

  def package(self, monkeypatch):
    """Stands in for the package wandb."""
    wandb = types.ModuleType("wandb")
    vars(wandb).update(Error=type("Error", (Exception,), {}), init=self.init)
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    return wandb

  def init(self, **given):
    self.given = given
    return self


def test_a_resumed_run_of_weights_and_biases_has_its_id_and_no_step_twice(monkeypatch):
  run = Recorded(starting_step=21)
  run.package(monkeypatch)
  logged(wandb_log(id="one", config={"rate": 0.1}), [20, 30], {"loss": 0.5})
  assert run.given == {"id": "one", "config": {"rate": 0.1}, "resume": "allow"}
  assert run.rows == [(30, {"loss": 0.5})] and run.status == 0


def test_a_run_of_weights_and_biases_that_fails_is_marked_so(monkeypatch):
  run = Recorded()
  run.package(monkeypatch)
  with pytest.raises(FloatingPointError), wandb_log(mode="offline"):
    raise FloatingPointError
  assert run.status == 1 and run.given == {"mode": "offline"}


def test_a_refusal_of_weights_and_biases_is_one_line(monkeypatch):
  run = Recorded()
  wandb = run.package(monkeypatch)

  def refuse(**given):
    raise wandb.Error("No API key.\nLog in")

  wandb.init = refuse
  with pytest.raises(ValueError, match=r"^Weights & Biases refused to start the run: No API key\. Log in$"):
    logged(wandb_log(), [1])


def test_without_its_package_weights_and_biases_is_refused_before_a_run_is_written(monkeypatch, tmp_path):
  monkeypatch.setitem(sys.modules, "wandb", types.ModuleType("wandb"))  # a folder of that name
  with pytest.raises(ModuleNotFoundError, match="not installed: pip install wandb"):
    logged(wandb_log(), [1])
  with pytest.raises(ValueError, match=r"expected --log without wandb.*pip install wandb"):
    run_folder.check(RunFlags(folder=tmp_path / "run", log=("wandb",)))
  assert not list(tmp_path.iterdir())


def test_weights_and_biases_itself_takes_a_run_offline(tmp_path, monkeypatch):
  pytest.importorskip("wandb", reason="the log of Weights & Biases: pip install wandb", exc_type=ImportError)
  monkeypatch.setenv("WANDB_SILENT", "true")
  for after in (0, 20):
    logged(wandb_log(mode="offline", dir=tmp_path, project="test", id="one"), [after + 10, after + 20])
  assert len(list((tmp_path / "wandb").glob("offline-run-*-one"))) == 2
