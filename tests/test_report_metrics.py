"""A run's numbers on disk: nothing logged is lost, nothing is there twice, TensorBoard reads the same."""

import errno
import json
import math
import os
import subprocess
import sys
import types

import jax
import numpy as np
import pytest

from metajax.report import metrics_log, read_metrics


@pytest.fixture(autouse=True)
def tensorboard_without_tensorflow(monkeypatch):
  monkeypatch.setitem(sys.modules, "tensorboard.compat.notf", types.ModuleType("notf"))


def scalars(folder):
  """`{name: [(step, value, wall time)]}` of the events of a folder, as TensorBoard has them."""
  from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

  events = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
  return {name: [(e.step, e.value, e.wall_time) for e in events.Scalars(name)] for name in events.Tags()["scalars"]}


def expected(rows):
  names = {name for row in rows for name in row} - {"step", "time"}
  as_event = lambda row, name: (row["step"], float(np.float32(row[name])), row["time"])
  return {name: [as_event(row, name) for row in rows if name in row] for name in names}


def steps(folder):
  return [row["step"] for row in read_metrics(folder)]


def write(folder, wanted, after=0, scale=1.0):
  with metrics_log(folder, after) as log:
    for step in wanted:
      log(step, {"loss": scale / step, "accuracy": np.float32(0.1)} | ({"validation": 97.5} if step % 20 == 0 else {}))


def test_floats_come_back_exactly(tmp_path):
  values = {"a": 0.1, "b": 1 / 3, "c": 5e-324, "d": 1.7976931348623157e308, "e": -0.0, "f": 1e22}
  with metrics_log(tmp_path) as log:
    log(1, values)
    log(2, {"a": np.float32(0.1), "b": jax.numpy.float32(1 / 3)})
  first, second = read_metrics(tmp_path)
  assert {name: first[name].hex() for name in values} == {name: value.hex() for name, value in values.items()}
  assert (second["a"], second["b"]) == (float(np.float32(0.1)), float(np.float32(1 / 3)))


def test_what_is_not_finite_is_valid_json_and_comes_back(tmp_path):
  with metrics_log(tmp_path) as log:
    log(7, {"loss": math.nan, "up": math.inf, "down": -math.inf})

  def refuse(word):
    raise ValueError(word)

  line = (tmp_path / "metrics.jsonl").read_text()
  assert json.loads(line, parse_constant=refuse)["loss"] == "NaN"
  (row,) = read_metrics(tmp_path)
  assert math.isnan(row["loss"]) and row["up"] == math.inf and row["down"] == -math.inf
  assert math.isnan(scalars(tmp_path)["loss"][0][1])


def test_events_hold_what_the_lines_hold(tmp_path):
  write(tmp_path, range(10, 101, 10))
  rows = read_metrics(tmp_path)
  assert len(rows) == 10 and scalars(tmp_path) == expected(rows)


def test_a_resumed_run_has_every_step_once_in_lines_and_events(tmp_path):
  write(tmp_path, range(10, 101, 10))
  before = (tmp_path / "metrics.jsonl").read_bytes().splitlines()
  write(tmp_path, range(60, 121, 10), after=50, scale=2.0)
  after = (tmp_path / "metrics.jsonl").read_bytes().splitlines()
  assert after[:5] == before[:5]  # as they were, their times too
  rows = read_metrics(tmp_path)
  assert steps(tmp_path) == list(range(10, 121, 10)) and rows[5]["loss"] == 2.0 / 60
  assert scalars(tmp_path) == expected(rows)
  assert len([path for path in tmp_path.iterdir() if "tfevents" in path.name]) == 1


def test_a_new_run_in_an_old_folder_starts_empty_and_leaves_the_events_of_others(tmp_path):
  write(tmp_path, [10, 20])
  (tmp_path / "events.out.tfevents.1.someone").write_bytes(b"")
  write(tmp_path, [5])
  assert steps(tmp_path) == [5] and scalars(tmp_path)["loss"][0][:2] == (5, float(np.float32(1 / 5)))
  assert (tmp_path / "events.out.tfevents.1.someone").exists()


def test_rows_of_earlier_versions_are_read_by_todays_names(tmp_path):
  (tmp_path / "metrics.jsonl").write_text('{"step": 1, "gradient_norm": 2.0, "waiting_for_data": 0.5}\n')
  assert read_metrics(tmp_path) == [{"step": 1, "grad_norm": 2.0, "data_wait_fraction": 0.5}]


def test_a_last_line_cut_short_is_left_out_and_written_over(tmp_path):
  write(tmp_path, [10, 20, 30])
  path = tmp_path / "metrics.jsonl"
  path.write_bytes(path.read_bytes()[:-9])
  assert steps(tmp_path) == [10, 20]
  write(tmp_path, [30, 40], after=30)
  assert steps(tmp_path) == [10, 20, 30, 40]
  assert path.read_bytes().endswith(b"}\n")


@pytest.mark.parametrize("junk", [b"not json", b"[1, 2]", b'{"loss": 1}', b"\x00\xff\x00"])
def test_a_line_that_is_no_row_is_left_out_with_a_warning(tmp_path, junk):
  write(tmp_path, [10, 20])
  path = tmp_path / "metrics.jsonl"
  first, second = path.read_bytes().splitlines()
  path.write_bytes(b"\n".join([first, junk, second, b""]))
  with pytest.warns(UserWarning, match="line 2"):
    assert steps(tmp_path) == [10, 20]
  with pytest.warns(UserWarning, match="line 2"):
    write(tmp_path, [30], after=20)
  assert path.read_bytes().splitlines()[:2] == [first, second]


def test_what_was_logged_outlives_a_kill_and_needs_no_tensorflow(tmp_path):
  program = f"""
import os, sys
import metajax.report
heavy = {{"tensorflow", "matplotlib", "sklearn", "tensorboard"}} & set(sys.modules)
with metajax.report.metrics_log({str(tmp_path)!r}) as log:
  for step in (1, 2, 3):
    log(step, {{"loss": step / 7}})
  print(sorted(heavy), "tensorflow" in sys.modules, flush=True)
  os.kill(os.getpid(), 9)
"""
  done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
  assert done.returncode == -9 and done.stdout.strip() == "[] False", done.stderr
  rows = read_metrics(tmp_path)
  assert [row["loss"] for row in rows] == [1 / 7, 2 / 7, 3 / 7]
  assert scalars(tmp_path) == expected(rows)


def test_a_full_disk_is_an_error_of_one_line_that_names_the_file(tmp_path, monkeypatch):
  def full(_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

  with metrics_log(tmp_path) as log:
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"No space left on device: .*metrics\.jsonl") as caught:
      log(1, {"loss": 1.0})
    assert caught.value.errno == errno.ENOSPC and "\n" not in str(caught.value)


def test_an_error_of_the_run_itself_passes_unchanged(tmp_path):
  with pytest.raises(OSError, match=r"^theirs$"), metrics_log(tmp_path):
    raise OSError("theirs")


def test_only_the_first_host_writes(tmp_path, monkeypatch):
  monkeypatch.setattr(jax, "process_index", lambda: 1)
  write(tmp_path / "run", [1, 2])
  assert not (tmp_path / "run").exists()


def test_there_are_no_rows_without_a_file(tmp_path):
  assert read_metrics(tmp_path / "nowhere") == []


@pytest.mark.parametrize("name", ["step", "time"])
def test_a_metric_may_not_be_called_like_a_part_of_the_line(tmp_path, name):
  with metrics_log(tmp_path) as log, pytest.raises(ValueError, match=f"no metric called '{name}'"):
    log(1, {name: 1.0})
