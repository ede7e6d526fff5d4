"""Files are whole or not there, whoever writes beside them, and what is planted in a folder is not followed."""

import concurrent.futures
import os
import re
import stat
from pathlib import Path

import pytest

import metajax
from metajax.data import train_tokenizer
from metajax.data.builtin.cache import write_arrays
from metajax.paths import SCRATCH, alone, read_json, write_whole, writing
from metajax.report import curves_figure
from metajax.report import write_whole as write_of_a_run

WRITERS = {
  "bytes": lambda path: write_whole(path, b"new"),
  "a run's": lambda path: write_of_a_run(path, b"new"),
  "arrays": lambda path: write_arrays(path, {"x": range(3)}),
  "a tokenizer": lambda path: train_tokenizer(["some text"], 258).save(path),
  "a figure": lambda path: curves_figure({"curve": ([0, 1], [0, 1])}, path),
}


def test_many_who_write_different_files_of_one_folder_each_find_their_own(tmp_path):
  """The fault was one name for all: of 600 writes 224 failed and 233 had another's content."""

  def write(number):
    for turn in range(8):
      write_whole(tmp_path / f"{number}.txt", f"{number} in turn {turn}".encode() * 100)
    return (tmp_path / f"{number}.txt").read_bytes() == f"{number} in turn 7".encode() * 100

  with concurrent.futures.ThreadPoolExecutor(8) as pool:
    assert all(pool.map(write, range(20)))
  assert len(list(tmp_path.iterdir())) == 20


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_no_link_that_is_planted_is_followed_by_any_writer(tmp_path, write):
  victim, folder = tmp_path / "victim", tmp_path / "folder"
  victim.write_text("precious")
  folder.mkdir()
  for name in (SCRATCH, "written", "written.part", "written.npz"):
    (folder / name).symlink_to(victim)
  write(folder / "written")
  assert victim.read_text() == "precious"
  assert not (folder / "written").is_symlink() and (folder / "written").stat().st_size


def test_a_scratch_file_has_a_name_of_its_own_that_tensorboard_does_not_read_and_is_gone_after_an_error(tmp_path):
  path = tmp_path / "events.out.tfevents.1.metajax"
  path.write_bytes(b"before")
  with pytest.raises(OSError, match=f"{path}"), writing(path) as first, writing(path) as second:
    assert first.name != second.name
    assert all(one.name.startswith(SCRATCH) and "tfevents" not in one.name for one in tmp_path.iterdir() if one != path)
    raise OSError(28, "No space left on device")
  assert path.read_bytes() == b"before" and list(tmp_path.iterdir()) == [path]


def test_a_file_has_the_rights_of_any_new_one(tmp_path):
  (tmp_path / "plain").touch()
  write_whole(tmp_path / "written", b"")
  assert stat.S_IMODE(os.stat(tmp_path / "written").st_mode) == stat.S_IMODE(os.stat(tmp_path / "plain").st_mode)


@pytest.mark.parametrize("content", [b"[" * 100_000, b"{", b"\xff", b'{"a": ' * 100_000, b"9" * 5000])
def test_what_is_no_json_is_said_with_its_name(tmp_path, content):
  (tmp_path / "run.json").write_bytes(content)
  with pytest.raises(ValueError, match=r"'.*run\.json' is not a JSON file: "):
    read_json(tmp_path / "run.json")


def test_a_fifo_is_no_json_file(tmp_path):
  os.mkfifo(tmp_path / "run.json")
  with pytest.raises(OSError, match="expected a regular file"):
    read_json(tmp_path / "run.json")


def test_a_folder_is_for_one_at_a_time(tmp_path):
  found = []

  def enter(number):
    with alone(tmp_path):
      found.append(("in", number))
      os.sched_yield()
      found.append(("out", number))

  with concurrent.futures.ThreadPoolExecutor(4) as pool:
    list(pool.map(enter, range(40)))
  assert all(a == ("in", b[1]) and b[0] == "out" for a, b in zip(found[::2], found[1::2], strict=True))


def test_all_files_are_written_by_the_one_writer():
  """But a claim, which must not take the place of another, labels, which are appended until their file is complete, and
  what is no file of a disk."""
  root, writes = Path(metajax.__file__).parent.parent, r"\.write_(text|bytes)\(|\bopen\([^)]*\"[wx]b?\"|os\.replace\("
  found = {
    str(path.relative_to(root))
    for part in ("metajax", "experiments", "benchmarks")
    for path in (root / part).rglob("*.py")
    for line in path.read_text().splitlines()
    if re.search(writes, line) and "os.devnull" not in line and "/proc/self" not in line
  }
  others = {"metajax/experiment/claims.py", "metajax/inference/labels.py"}
  assert found == {"metajax/paths/files.py"} | others
