"""A table of runs, made from their folders' data alone."""

import csv
import functools
import importlib
import io
import json
import os
import sys

import commands
import pytest

import experiments
from metajax.cli import runs
from metajax.experiment import claims, command_line, flags, former_flags
from metajax.experiment.renamed import current_flags

SESSION = {"started": "2026-11-24 10:15:00"}


def record(value, interval=None, learner="maml", **more):
  of = {"ways": 5, "shots": 1, "measure": "accuracy", "split": "test", "train_seconds": 100, "steps": 20}
  return {"learner": learner, "value": value, "interval": interval, "published": None, **of, **more}


def make(folder, flags, *, day=1, records=None, parts=(), experiment="experiments.maml"):
  """A run's folder; of each part its name, its steps by metrics and checkpoints, and its seconds."""
  folder.mkdir(parents=True)
  about = {"experiment": experiment, "arguments": [], "flags": {"steps": 20, "folder": str(folder)} | flags}
  about |= {"sessions": [SESSION | {"started": f"2026-11-{day:02} 10:15:00"}, SESSION]}
  (folder / "run.json").write_text(json.dumps(about))
  if records is not None:
    (folder / "records.json").write_text(json.dumps(records))
  for i, (name, step, saved, seconds) in enumerate(parts):
    (folder / name / "checkpoints" / str(saved)).mkdir(parents=True)
    (folder / name / "checkpoints" / f"{saved + 5}.orbax-checkpoint-tmp").mkdir()
    rows = [{"step": step - 1, "time": 100.0 * i}, {"step": step, "time": 100.0 * i + 1, "seconds": seconds}]
    (folder / name / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"step"')
  return folder


@pytest.fixture
def listed(monkeypatch, capsys, tmp_path):
  """What the command prints, in a folder of its own: (its standard output, its standard error)."""
  monkeypatch.chdir(tmp_path)
  command = functools.partial(command_line.command, runs.runs)

  def run(*arguments):
    status, out, error = commands.run(monkeypatch, capsys, "runs", command, *arguments)
    assert status == 0, error
    return out, error

  return run


def cells(text):
  return list(csv.reader(io.StringIO(text, newline="")))


def as_rows(text):
  heading, *rows = cells(text)
  return [dict(zip(heading, row, strict=True)) for row in rows]


def test_runs_are_listed_with_the_flags_in_which_they_differ_their_figures_and_times(listed, tmp_path):
  of_both = {"shots": 1, "test": ["5w1s"], "keep": 3}
  figures = [record(97.0625, 0.23), record(50.0, learner="pixels", steps=0)]
  make(tmp_path / "runs/new", of_both | {"learning_rate": 0.01, "keep": 5}, day=9, parts=[("", 12, 10, 40)])
  make(
    tmp_path / "runs/old", of_both | {"rate": 0.001, "note": "x"}, day=8, records=figures, parts=[("", 20, 20, 3661)]
  )
  (tmp_path / "runs/no run").mkdir()
  (tmp_path / "runs/file").touch()
  out, error = listed()
  heading, *rows = [line.split("  ") for line in out.splitlines()]
  words = lambda line: [word.strip() for word in line if word]
  assert words(heading) == ["run", "state", "started", "--learning-rate", "5-way 1-shot (%)", "training time"]
  assert [words(row) for row in rows] == [
    ["old", "finished", "2026-11-08 10:15:00", "0.001", "97.0625 ± 0.23", "1:01:01"],
    ["new", "stopped at step 12 of 20", "2026-11-09 10:15:00", "0.01", "0:00:40"],
  ]
  assert error == "" and len({len(line[: line.index("2026")]) for line in out.splitlines()[1:]}) == 1


def test_csv_has_every_digit_and_rows_that_end_as_the_standard_says(listed, tmp_path):
  make(tmp_path / "runs/a", {"rate": 0.1, "test": ["a,b", 'say "c"']}, records=[record(1 / 3, 2 / 3)])
  make(tmp_path / "runs/b", {"rate": 1e-7, "test": [], "seeds_at_once": 2}, parts=[("", 3, 3, 1.25)])
  out, _ = listed("--csv")
  assert out.count("\r\n") == out.count("\n") == 3
  one, other = as_rows(out)
  assert one["5-way 1-shot (%)"] == repr(1 / 3) and one["5-way 1-shot (%), 95% interval ±"] == repr(2 / 3)
  assert (one["learning-rate"], other["learning-rate"]) == ("0.1", "1e-07") and one["test"] == 'a,b say "c"'
  assert (
    other["training seconds"] == "1.25" and other["folder"] == "runs/b" and other["experiment"] == "experiments.maml"
  )


def test_several_parts_and_seeds_are_one_run_at_the_step_of_the_last(listed, tmp_path):
  make(tmp_path / "runs/waves", {}, parts=[("maml", 20, 20, 30), ("joint", 7, 5, 10)], day=1)
  make(tmp_path / "runs/seeds", {"seeds": 2}, parts=[("a/seed-0", 20, 20, 1), ("a/seed-1", 20, 20, 1)], day=2)
  waves, seeds = as_rows(listed("--csv")[0])
  assert (waves["state"], waves["training seconds"]) == ("stopped at step 7 of 20 (joint)", "40.0")
  assert (seeds["state"], seeds["training seconds"]) == ("stopped at step 20 of 20 (a/seed-1)", "2.0")


def test_a_run_that_a_process_holds_is_running_also_if_it_had_finished(listed, tmp_path):
  here, there = (
    make(tmp_path / "runs/here", {}, records=[record(1.0)], parts=[("", 20, 20, 1)]),
    tmp_path / "runs/there",
  )
  make(there, {}, parts=[("", 3, 3, 1)], day=2)
  claim = claims.of(os.getpid())
  (here / claims.CLAIM).write_text(json.dumps(claim._asdict()))
  (there / claims.CLAIM).write_text(json.dumps(claim._replace(host="elsewhere", boot="b")._asdict()))
  states = [row["state"] for row in as_rows(listed("--csv")[0])]
  assert states == ["running at step 20 of 20", "running on elsewhere at step 3 of 20"]
  (here / claims.CLAIM).write_text(json.dumps(claim._replace(began="1")._asdict()))
  assert as_rows(listed("--csv")[0])[0]["state"] == "finished"


@pytest.mark.parametrize("odd", ["{", "[" * 100_000, "{}", '{"experiment": 7}', "fifo"])
def test_a_run_that_cannot_be_read_is_one_line_and_the_others_are_listed(listed, tmp_path, odd):
  make(tmp_path / "runs/a", {})
  (tmp_path / "runs/b\x1b[2J").mkdir()
  path = tmp_path / "runs/b\x1b[2J/run.json"
  os.mkfifo(path) if odd == "fifo" else path.write_text(odd)
  out, error = listed()
  assert error.count("\n") == 1 and error.startswith("left out: ") and "run.json" in error and "\x1b" not in error + out
  assert len(out.splitlines()) == 2


@pytest.mark.parametrize("odd", ["{", "[7]", '[{"learner": [1], "steps": 1, "measure": "a"}]', "fifo", "metrics"])
def test_a_run_without_readable_records_or_metrics_is_listed_without_scores(listed, tmp_path, odd):
  run = make(tmp_path / "runs/a", {}, parts=[("", 20, 20, 1)])
  path = run / ("metrics.jsonl" if odd == "metrics" else "records.json")
  path.unlink(missing_ok=True)
  os.mkfifo(path) if odd in ("fifo", "metrics") else path.write_text(odd)
  out, error = listed("--csv")
  assert as_rows(out)[0]["state"] == "stopped at step 20 of 20"
  assert error.count("\n") == (odd != "metrics") and error.startswith("without scores: "[: len(error)])


def test_untrusted_text_neither_controls_the_terminal_nor_is_a_formula(listed, tmp_path):
  make(tmp_path / "runs/=1+1", {"data": "\x1b]0;x\x07", "a\nb": 1, "ways": -1})
  make(tmp_path / "runs/[red]b", {"data": "@x", "a\nb": 2, "ways": 5}, day=2, experiment="evil.\x1b[2Jmodule")
  for arguments in ([], ["--csv"]):
    out, error = listed(*arguments)
    assert "\x1b" not in out + error and "\x07" not in out and out.count("\n") == 3 and "[red]b" in out
  one, other = as_rows(out)
  assert one["run"] == "'=1+1" and other["data"] == "'@x" and one["ways"] == "-1" and "a\\nb" in one
  assert "evil" not in sys.modules


def test_a_table_fits_80_columns_and_says_which_columns_are_left_out(listed, tmp_path, monkeypatch):
  for i in range(3):
    many = {f"flag_number_{k}": f"{i}{'long' * (5 if k else 1)}" for k in range(9)}
    make(tmp_path / f"runs/maml-omniglot-20261124-10150{i}", many, records=[record(90 + i, 0.5)], day=i + 1)
  terminal = Terminal()
  monkeypatch.setattr(sys, "stdout", terminal)
  monkeypatch.setenv("COLUMNS", "80")
  monkeypatch.setenv("TERM", "dumb")
  runs.runs()
  lines = terminal.getvalue().splitlines()
  text = " ".join("".join(lines).split())
  assert all(len(line) <= 80 for line in lines) and len(lines) > 6
  assert "left out at this width: " in text and "started" in text and "--csv prints all" in text
  assert all(f"{90 + i} ± 0.5" in text for i in range(3)) and "--flag-number-0 " in text


class Terminal(io.StringIO):
  """A terminal's text."""

  def isatty(self):
    return True


def test_folders_and_runs_are_given_together_and_each_run_is_listed_once(listed, tmp_path):
  make(tmp_path / "runs/a", {})
  make(tmp_path / "other/a", {}, day=2)
  assert [row["run"] for row in as_rows(listed("runs", "runs/a", "other/a", "--csv")[0])] == ["runs/a", "other/a"]
  assert [row["run"] for row in as_rows(listed("other/a", "--csv")[0])] == ["a"]
  (tmp_path / "empty").mkdir()
  assert cells(listed("empty", "--csv")[0])[1:] == []


def test_a_folder_that_is_not_there_is_an_error_of_one_line(monkeypatch, capsys, tmp_path):
  command = functools.partial(command_line.command, runs.runs)
  status, out, error = commands.run(monkeypatch, capsys, "runs", command, str(tmp_path / "none"))
  assert (
    status == 2 and not out and error.startswith("error: expected a folder of runs, got '") and error.count("\n") == 1
  )


def test_flags_of_earlier_versions_have_todays_names_without_an_import_of_their_commands():
  checked = 0
  for name in experiments.commands():
    module = importlib.import_module(name)
    kinds = flags.kinds_of(command_line.config_of(module.build)) if hasattr(module, "build") else {}
    for flag, kind in kinds.items():
      for former in former_flags.of(kind):
        value = "cosine" if flag == "schedule" else True
        expected = former_flags.value_in({former.field: value}, flag, kind, None)
        assert current_flags(name, {former.field: value}) == {flag: expected}, (name, former)
        assert current_flags(name, {former.field: value, flag: 7}) == {former.field: value, flag: 7}
        checked += 1
  assert checked > 100
  assert current_flags("mine", {"rate": 1, "validate_every": 2}) == {"rate": 1, "eval_every": 2}
