"""One process at a time writes in a run's folder; a claim that a kill left behind is known for stale."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from experiments import sinusoid
from metajax.experiment import RUN, claims, command_line, driver, records, run_folder
from metajax.experiment.run_folder import Run


@pytest.fixture
def other():
  """Another process of this host."""
  process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
  yield process
  process.kill()
  process.wait()


def claimed(folder: Path, claim):
  folder.mkdir(exist_ok=True)
  (folder / claims.CLAIM).write_text(json.dumps(claim if isinstance(claim, dict) else claim._asdict()))
  return folder


def sine_waves(monkeypatch, *arguments):
  """The status of the command."""
  monkeypatch.setattr(sys, "argv", ["sinusoid", *map(str, arguments)])
  try:
    driver.main(sinusoid.build)
  except SystemExit as stop:
    return stop.code
  return 0


def test_a_folder_that_another_process_writes_in_is_refused_before_anything_is_written(
  monkeypatch, capsys, tmp_path, other
):
  folder = claimed(tmp_path / "run", claims.of(other.pid))
  for more in ((), ("--resume",)):
    before = sorted(folder.iterdir())
    assert sine_waves(monkeypatch, "--folder", folder, *more) == 2
    error = capsys.readouterr().err
    assert f"'{folder}': process {other.pid} on {os.uname().nodename}, since" in error and error.count("\n") == 1
    assert sorted(folder.iterdir()) == before


def test_one_that_began_meanwhile_is_seen_when_the_run_would_write(tmp_path, other):
  folder = tmp_path / "run"
  run = Run(folder, RUN._replace(folder=folder), False, {})
  claimed(folder, claims.of(other.pid))
  with pytest.raises(ValueError, match=f"no other process writes in.*process {other.pid}"):
    run_folder.write_configuration(run, 1)
  (folder / claims.CLAIM).unlink()
  (folder / "run.json").write_text("{}")
  with pytest.raises(ValueError, match="--resume goes on with it"):
    run_folder.write_configuration(run, 1)
  claims.release()


def test_a_claim_of_a_process_that_is_gone_is_said_and_taken_over(capsys, tmp_path, other):
  gone = claims.of(other.pid)
  other.kill()
  os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)  # dead, and nobody was told yet
  now = claims.of(os.getpid())
  stale = {
    "killed": gone,
    "of another process that had the number": now._replace(began="1"),
    "from before the host began anew": now._replace(boot="another", process=1),
  }
  for why, claim in stale.items():
    folder = claimed(tmp_path / why, claim)
    claims.check_free(folder)
    claims.take(folder)
    said = capsys.readouterr().err
    assert said.startswith(f"process {claim.process} on {claim.host}, since") and said.endswith("its claim is stale\n")
    assert claims.read(folder).process == os.getpid()
    claims.release()
    assert not list(folder.iterdir())


@pytest.mark.parametrize("where", [{"host": "elsewhere"}, {"numbers": "pid:[1]"}])
def test_a_claim_of_a_process_that_cannot_be_seen_from_here_is_refused_with_what_to_do(tmp_path, other, where):
  folder = claimed(tmp_path / "run", claims.of(2**22 + 1)._replace(began="1", **where))
  with pytest.raises(ValueError, match=r"has it \(if that has ended, delete '.*/run/\.claim'\)"):
    claims.take(folder)


@pytest.mark.parametrize("odd", [b"", b"[" * 100_000, b"7", b'{"host": 1}', b"\xff", b'{"process": "1"}'])
def test_what_is_no_claim_says_nothing(tmp_path, odd):
  (tmp_path / claims.CLAIM).write_bytes(odd)
  claims.take(tmp_path)
  assert claims.read(tmp_path).process == os.getpid()
  claims.release()


def test_a_link_or_a_fifo_in_a_claims_place_is_not_followed_and_holds_nobody_up(tmp_path):
  (tmp_path / "victim").write_text("precious")
  for make in (lambda path: path.symlink_to(tmp_path / "victim"), os.mkfifo):
    folder = tmp_path / "run"
    folder.mkdir(exist_ok=True)
    make(folder / claims.CLAIM)
    claims.take(folder)
    claims.release()
    assert not list(folder.iterdir())
  assert (tmp_path / "victim").read_text() == "precious"


SAID = {"command": "", "machine": "", "precision": "", "versions": {}}


def test_runs_of_one_second_that_were_given_no_folder_have_folders_of_their_own(tmp_path):
  run = Run(tmp_path / "runs" / "maml-20261124-101500", RUN, False, SAID)
  found = [run_folder.write_configuration(run, 1).folder.name for _ in range(3)]
  assert found == [f"maml-20261124-101500{end}" for end in ("", "-2", "-3")]
  claims.release()


@pytest.mark.parametrize("end", [None, ValueError("expected something else"), KeyboardInterrupt(), RuntimeError()])
def test_a_claim_goes_when_the_run_ends_however_it_does(monkeypatch, capsys, tmp_path, end):
  seen = []

  def ends(*given, **more):
    seen.append(claims.read(tmp_path / "run").process)
    if end is not None:
      raise end
    sys.exit(0)

  monkeypatch.setattr(driver, "recorded", ends)
  try:
    sine_waves(monkeypatch, "--folder", tmp_path / "run")
  except (ValueError, RuntimeError) as error:
    assert error is end
  assert seen == [os.getpid()]
  assert [path.name for path in (tmp_path / "run").iterdir()] == ["run.json"]


def test_sigterm_outside_a_training_gives_up_the_claim(monkeypatch, tmp_path):
  left = []
  monkeypatch.setattr(os, "_exit", left.append)
  claims.take(tmp_path)
  command_line._end(15, None)
  assert left == [0] and not list(tmp_path.iterdir())


def test_records_that_two_runs_publish_at_once_are_all_kept(monkeypatch, tmp_path):
  """Each reads what there is, adds its own and writes all: while one does, the other waits."""
  import concurrent.futures
  import time

  monkeypatch.setattr(records, "build_page", lambda *given: None)
  read = records.read
  monkeypatch.setattr(records, "read", lambda path: [read(path), time.sleep(0.01)][0])
  with concurrent.futures.ThreadPoolExecutor(4) as pool:
    list(pool.map(lambda i: records.publish(tmp_path, "some", [{"learner": str(i)}]), range(8)))
  assert len(read(tmp_path / "results" / "some.json")) == 8
