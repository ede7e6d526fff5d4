"""Runs, checkpoints, metrics and data in a store of objects, which has no append, no rename and no locks."""

import functools
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import chex
import commands
import jax
import jax.numpy as jnp
import numpy as np
import object_store
import pytest
from PIL import Image

from metajax import paths
from metajax.checkpoint import Checkpoints
from metajax.checkpoint import manager as managers
from metajax.data import (
  load,
  load_captioned,
  load_recordings,
  load_texts,
  load_tokenizer,
  one_shot_runs,
  train_tokenizer,
)
from metajax.experiment import claims, driver, longer, parts
from metajax.report import csv_log, curves_figure, jsonl_log, metrics_log, page, read_metrics, tensorboard_log

ROOT = Path(__file__).parent.parent
UNKNOWN = ("s3://bucket/x", "http://host/x", "https://host/x", "ftp://host/x", "foo://bucket/x", "hf://bucket/x")
UNKNOWN += tuple(url.replace("://", ":/") for url in UNKNOWN)


@pytest.fixture
def store(tmp_path):
  """(the URL of a bucket, the folder that holds its objects)"""
  with object_store.in_folder(tmp_path / "store") as url:
    yield url, tmp_path / "store" / "bucket"


def objects(folder):
  return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def tree(seed):
  return {"weight": jax.random.normal(jax.random.key(seed), (4, 3)), "step": jnp.int32(seed)}


# ---- places


@pytest.mark.parametrize("url", UNKNOWN)
@pytest.mark.parametrize(
  "use",
  [
    functools.partial(paths.place, "it"),
    Checkpoints,
    lambda url: metrics_log(url).__enter__(),
    lambda url: csv_log(url).__enter__(),
    lambda url: tensorboard_log(url).__enter__(),
    read_metrics,
    lambda url: curves_figure({"a": ([0, 1], [0, 1])}, url),
    functools.partial(page, title="", summary=(), configuration={}, records=(), figures=()),
    load,
    load_captioned,
    load_texts,
    lambda url: load("mnist", data_dir=url),
  ],
)
def test_a_scheme_that_is_not_opened_here_is_refused_with_those_that_are(use, url, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  with pytest.raises(ValueError, match=rf"path on this machine, or of .*gs://.*, got '{re.escape(url)}': copy it to"):
    use(url)
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("use", [load_recordings, one_shot_runs, load_tokenizer])
def test_data_that_are_read_from_a_disk_alone_are_refused_in_a_bucket(use):
  with pytest.raises(ValueError, match="a path on this machine, got 'gs://bucket/x': copy it to a disk or mount"):
    use("gs://bucket/x")


@pytest.mark.parametrize("flag", ["--folder", "--output", "--data"])
@pytest.mark.parametrize("url", [UNKNOWN[0], UNKNOWN[3], UNKNOWN[-2]])
def test_a_command_refuses_an_unknown_scheme_before_it_builds_anything(flag, url, tmp_path, monkeypatch, capsys):
  from experiments import prototypical

  monkeypatch.chdir(tmp_path)
  built = lambda config: pytest.fail("built")
  built.__annotations__ = prototypical.build.__annotations__
  main = functools.partial(driver.main, built, prototypical.PRESETS)
  status, _, error = commands.run(monkeypatch, capsys, "experiments.prototypical", main, flag, url)
  assert status == 2 and "or of gs://" in error and error.count("\n") == 1
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("given", ["gs://bucket/run", "gs:/bucket/run", Path("gs://bucket/run")])
def test_a_url_may_have_lost_a_slash_in_a_path(given):
  found = paths.place("it", given)
  assert str(found) == "gs://bucket/run" and str(found / "run.json") == "gs://bucket/run/run.json"
  assert paths.remote(found) and not paths.remote(paths.place("it", "/tmp/run"))


@pytest.mark.parametrize("given", ["gs://", "gs:///run", "gs://a\0b", "gs:/"])
def test_a_url_without_a_bucket_is_refused(given):
  with pytest.raises(ValueError, match="expected it to name a bucket, as in gs://bucket/folder, got 'gs:/"):
    paths.place("it", given)


def test_a_path_on_this_machine_stays_what_it_was(tmp_path, monkeypatch):
  monkeypatch.setenv("HOME", str(tmp_path))
  assert paths.place("it", "~/run") == tmp_path / "run" and type(paths.place("it", "run")) is type(Path("run"))


def test_what_a_bucket_says_is_an_error_of_one_line_with_its_name(store, monkeypatch):
  def denied(path):
    raise RuntimeError("permission denied for the account\nand ten more lines")

  monkeypatch.setattr(object_store.STORE, "exists", denied)
  from metajax.experiment import records

  with pytest.raises(OSError, match="permission denied for the account: 'teststore://bucket/run'") as raised:
    records.check_writable(paths.place("it", f"{store[0]}/run"))
  assert "ten more" not in str(raised.value)


def test_a_bucket_that_does_not_answer_is_no_empty_one(store, monkeypatch):
  """TensorFlow's `is_dir` is then False, and only its `exists` raises."""
  url, _ = store
  with jsonl_log(f"{url}/run") as log:
    log(1, {"loss": 1.0})
  with Checkpoints(f"{url}/run/checkpoints") as checkpoints:
    checkpoints.save(1, tree(1), {})

  def silent(path, *mode):
    raise RuntimeError("the bucket does not answer")

  folder = paths.place("it", f"{url}/run")
  for name in ("exists", "listdir"):
    monkeypatch.setattr(object_store.STORE, name, silent)
  monkeypatch.setattr(object_store.STORE, "isdir", lambda path: False)
  for ask in (
    lambda: read_metrics(folder),
    lambda: paths.begin(folder / "metrics.jsonl", b""),
    lambda: paths.files_in(folder),
    lambda: load(f"{url}/set"),
    Checkpoints(folder / "checkpoints").steps,
  ):
    with pytest.raises(OSError, match="the bucket does not answer: 'teststore://bucket/"):
      ask()
  monkeypatch.setattr(object_store.STORE, "open", silent)
  with pytest.raises(OSError, match="the bucket does not answer: 'teststore://bucket/"):
    claims.read(folder)


# ---- files


def test_an_object_is_put_whole_or_not_at_all(store):
  url, disk = store
  path = paths.place("it", f"{url}/a/file")
  paths.write_whole(path, b"before")
  with pytest.raises(RuntimeError), paths.writing(path) as file:
    file.write(b"half")
    raise RuntimeError
  assert (disk / "a/file").read_bytes() == b"before" and objects(disk) == ["a/file"]


def test_what_is_appended_is_numbered_parts_until_they_are_merged(store):
  url, disk = store
  path = paths.place("it", f"{url}/rows.jsonl")
  paths.begin(path, b"a\n")
  with paths.appending(path) as append:
    append(b"b\n")
    append(b"c\n")
    assert objects(disk) == ["rows.jsonl.part-00001-first", "rows.jsonl.part-00002", "rows.jsonl.part-00003"]
    assert paths.read(path) == b"a\nb\nc\n"
  paths.merge(path)
  assert objects(disk) == ["rows.jsonl"] and paths.read(path) == b"a\nb\nc\n"
  with paths.appending(path) as append:  # to what was merged
    append(b"d\n")
  assert paths.read(path) == b"a\nb\nc\nd\n"


@pytest.mark.parametrize("what", ["begin", "merge"])
@pytest.mark.parametrize("done", range(7))
def test_a_file_of_parts_is_old_or_new_wherever_a_kill_falls(store, monkeypatch, what, done):
  url, _ = store
  path = paths.place("it", f"{url}/rows")
  paths.begin(path, b"1")
  with paths.appending(path) as append:
    append(b"2")
    append(b"3")
  left = [done]

  def until_killed(call):
    def called(*given):
      if not left[0]:
        raise KeyboardInterrupt
      left[0] -= 1
      return call(*given)

    return called

  with monkeypatch.context() as patch:
    patch.setattr(object_store._Object, "__exit__", until_killed(object_store._Object.__exit__))
    patch.setattr(object_store.STORE, "remove", until_killed(object_store.STORE.remove))
    try:
      paths.begin(path, b"4") if what == "begin" else paths.merge(path)
      ended = True
    except KeyboardInterrupt:
      ended = False
  new = b"4" if what == "begin" else b"123"
  assert paths.read(path) in ({new} if ended else {b"123", new})
  assert done or paths.read(path) == b"123"
  paths.begin(path, b"5")
  assert paths.read(path) == b"5"


def test_a_file_is_moved_without_a_rename(store):
  url, disk = store
  path = paths.place("it", f"{url}/run/records.json")
  paths.write_whole(path, b"[]")
  longer._rename_records(path.parent, 20)
  assert objects(disk) == ["run/records-20-steps.json"]


@pytest.mark.parametrize("name", ["metrics", "csv", "tensorboard"])
def test_metrics_in_a_bucket_resume_as_on_a_disk(store, tmp_path, name):
  url, disk = store

  def logged(folder):
    opened = {
      "metrics": lambda after: metrics_log(folder, after, formats=("tensorboard", "csv")),
      "csv": lambda after: csv_log(f"{folder}/table.csv", after),
      "tensorboard": lambda after: tensorboard_log(folder, after),
    }[name]
    with opened(0) as log:
      for step in range(1, 5):
        log(step, {"loss": 1 / step})
    with opened(2) as log:
      log(3, {"loss": 0.1})
      log(4, {"loss": 0.2, "new": float("nan")})

  logged(str(tmp_path / "here"))
  logged(f"{url}/run")
  plain = lambda folder: {re.sub(r"tfevents.*", "tfevents", name) for name in objects(folder)}
  assert plain(disk / "run") == plain(tmp_path / "here")
  timeless = lambda rows: [{k: str(v) for k, v in row.items() if k != "time"} for row in rows]
  if name == "metrics":
    assert timeless(read_metrics(f"{url}/run")) == timeless(read_metrics(tmp_path / "here"))
  if name != "tensorboard":
    table = "metrics.csv" if name == "metrics" else "table.csv"
    cut = lambda folder: [re.sub(r"^(\w+),[^,]*", r"\1", line) for line in (folder / table).read_text().splitlines()]
    assert cut(disk / "run") == cut(tmp_path / "here")
  if name != "csv":
    sizes = [
      sorted(p.stat().st_size for p in folder.glob("*tfevents*")) for folder in (disk / "run", tmp_path / "here")
    ]
    assert sizes[0] == sizes[1]


def test_the_metrics_of_a_killed_run_are_read_and_found(store):
  url, _ = store
  log = jsonl_log(f"{url}/run/maml")
  write = log.__enter__()
  write(1, {"loss": 1.0})
  write(2, {"loss": 0.5})
  assert [row["loss"] for row in read_metrics(f"{url}/run/maml")] == [1.0, 0.5]
  run = paths.place("it", f"{url}/run")
  assert parts.with_metrics(run) == parts.parts_of(run) == [run / "maml"]
  log.__exit__(None, None, None)
  assert parts.with_metrics(run) == parts.parts_of(run) == [run / "maml"]


# ---- claims


@pytest.fixture
def other():
  process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
  yield claims.of(process.pid)
  process.kill()
  process.wait()


def test_a_run_in_a_bucket_that_another_process_has_is_refused(store, other):
  folder = paths.place("it", f"{store[0]}/run")
  paths.write_whole(folder / claims.CLAIM, json.dumps(other._asdict()).encode())
  with pytest.raises(ValueError, match="no other process writes in, got 'teststore://bucket/run': process"):
    claims.take(folder)
  elsewhere = other._replace(host="another-host")
  paths.write_whole(folder / claims.CLAIM, json.dumps(elsewhere._asdict()).encode())
  with pytest.raises(ValueError, match=r"on another-host.*delete 'teststore://bucket/run/\.claim'"):
    claims.take(folder)


def test_of_two_that_claim_at_once_the_one_whose_claim_is_replaced_gives_way(store, other, monkeypatch):
  folder = paths.place("it", f"{store[0]}/run")
  meanwhile = lambda seconds: paths.write_whole(folder / claims.CLAIM, json.dumps(other._asdict()).encode())
  monkeypatch.setattr(claims.time, "sleep", meanwhile)
  with pytest.raises(ValueError, match=f"process {other.process} on"):
    claims.take(folder)
  assert claims.read(folder) == other and not claims._held


def test_a_claim_in_a_bucket_is_taken_and_released(store, monkeypatch):
  monkeypatch.setattr(claims, "SETTLED", 0.0)
  folder = paths.place("it", f"{store[0]}/run")
  claims.take(folder)
  assert claims.holder(folder).process == os.getpid()
  claims.release()
  assert objects(store[1]) == []


# ---- checkpoints


def test_checkpoints_in_a_bucket_are_kept_restored_and_deleted_as_on_a_disk(store):
  url, disk = store
  with Checkpoints(f"{url}/run", keep=2) as checkpoints:
    for step in range(1, 6):
      checkpoints.save(step, tree(step), {"loss": step}, best=1 if step < 4 else 4)
  with Checkpoints(f"{url}/run") as checkpoints:
    assert checkpoints.steps() == [4, 5]
    step, found, note = checkpoints.restore(tree(0))
    assert (step, note) == (5, {"loss": 5})
    chex.assert_trees_all_equal(found, tree(5))
    checkpoints.check({"weight": tree(0)["weight"]})
    checkpoints.save(4, tree(7), {})
    checkpoints.wait()
    assert checkpoints.steps() == [4]
    chex.assert_trees_all_equal(checkpoints.restore(tree(0))[1], tree(7))
  assert {name.split("/")[1] for name in objects(disk)} == {"4"}


@pytest.mark.parametrize("done", [0, 1, 5, 9])
def test_a_checkpoint_that_is_put_in_part_is_none_and_the_next_writer_removes_it(store, monkeypatch, done):
  url, disk = store
  with Checkpoints(f"{url}/run") as checkpoints:
    checkpoints.save(1, tree(1), {})
  put, left = object_store._Object.__exit__, [done]

  def fails(file, *given):
    left[0] -= 1
    if left[0] < 0:
      raise RuntimeError("the network is gone")
    return put(file, *given)

  with monkeypatch.context() as patch:
    patch.setattr(object_store._Object, "__exit__", fails)
    checkpoints = Checkpoints(f"{url}/run")
    checkpoints.save(2, tree(2), {})
    with pytest.raises(OSError, match="the network is gone; the last complete one is of step 1"):
      checkpoints.close()
  assert len([name for name in objects(disk) if name.startswith("run/2/")]) == done
  assert parts.checkpointed_step(paths.place("it", url)) == 0  # of a folder without checkpoints
  with Checkpoints(f"{url}/run") as checkpoints:
    assert checkpoints.steps() == [1] and checkpoints.restore(tree(0))[0] == 1
    checkpoints.save(3, tree(3), {})
  assert {name.split("/")[1] for name in objects(disk)} == {"1", "3"}


def test_a_checkpoint_is_incomplete_as_soon_as_it_is_being_deleted(store, monkeypatch):
  url, disk = store
  with Checkpoints(f"{url}/run") as checkpoints:
    checkpoints.save(1, tree(1), {})
  removed = []
  remove = object_store.STORE.remove
  monkeypatch.setattr(object_store.STORE, "remove", lambda path: removed.append(path) or remove(path))
  with Checkpoints(f"{url}/run") as checkpoints:
    checkpoints._manager(writes=True).delete(1)
  assert removed[0] == f"{url}/run/1/commit_success.txt" and len(removed) > 5 and objects(disk) == []


def test_several_hosts_are_refused_where_one_alone_can_write(store, monkeypatch):
  monkeypatch.setattr(managers, "process_shard", lambda: (0, 4))
  with pytest.raises(ValueError, match="on a disk that all see, or of gs://, got 'teststore://bucket/run', which one"):
    Checkpoints(f"{store[0]}/run")
  monkeypatch.setattr(managers, "NEEDED", "no_such_package.storage")
  with pytest.raises(ValueError, match="to 'gs://bucket/run', got none: pip install google-cloud-storage"):
    Checkpoints("gs://bucket/run")
  monkeypatch.setattr(managers, "NEEDED", "json")
  assert str(Checkpoints("gs://bucket/run").folder) == "gs://bucket/run"


def test_tensorflows_file_systems_that_serve_gs_serve_a_run():
  """Its store in memory, as no bucket is needed for that: the calls are those of `gs://`."""
  object_store.register_memory()
  folder = paths.place("it", "ram://bucket/run")
  with Checkpoints(folder / "checkpoints", keep=1) as checkpoints:
    for step in (1, 2):
      checkpoints.save(step, tree(step), {"loss": step})
  with Checkpoints("ram://bucket/run/checkpoints") as checkpoints:
    assert checkpoints.steps() == [2]
    chex.assert_trees_all_equal(checkpoints.restore(tree(0))[1], tree(2))
  for after in (0, 1):
    with metrics_log(folder, after, formats=("tensorboard", "csv")) as log:
      for step in (1, 2, 3):
        log(step, {"loss": after + 1 / step})
      assert [row["step"] for row in read_metrics(folder)] == [1, *[1] * after, 2, 3]
  paths.write_whole(folder / "run.json", b"{}")
  longer.move(folder / "run.json", folder / "moved.json")
  names = {path.relative_to(folder).as_posix() for path in paths.files_in(folder)}
  assert {"moved.json", "metrics.jsonl", "metrics.csv"} <= names and "run.json" not in names
  with pytest.raises(FileNotFoundError, match="no such file: 'ram://bucket/run/none'"):
    paths.read_bytes(folder / "none")
  assert claims.read(folder) is None and not paths.exists(folder / "none")


# ---- data


def images_of(folder):
  """Six classes of four images as a folder, a table and an archive, and two captions."""
  pixels = np.random.default_rng(0).integers(0, 256, (24, 16, 16, 1), np.uint8)
  rows, captions = ["path,label"], ["path,caption"]
  for i, image in enumerate(pixels):
    path = folder / f"set/class {i // 4}/{i}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image[..., 0]).save(path)
    rows.append(f"set/class {i // 4}/{i}.png,class {i // 4}")
    captions.append(f"set/class {i // 4}/{i}.png,photo {i}")
  (folder / "set/.hidden").mkdir()
  (folder / "set/.hidden/1.png").write_bytes(b"")
  (folder / "table.csv").write_text("\n".join(rows))
  (folder / "captions.csv").write_text("\n".join(captions))
  np.savez(folder / "set.npz", images=pixels, labels=np.repeat([f"class {k}" for k in range(6)], 4))


@pytest.mark.parametrize("name", ["set", "table.csv", "set.npz"])
def test_images_in_a_bucket_are_those_on_a_disk(store, name):
  url, disk = store
  images_of(disk)
  here, there = load(disk / name, size=16), load(f"{url}/{name}", size=16)
  np.testing.assert_array_equal(here.images[:], there.images[:])
  assert here.classes == there.classes and len(there.images) == 8
  np.testing.assert_array_equal(here.labels, there.labels)


def test_a_saved_tokenizer_in_a_bucket_is_that_on_a_disk(store):
  url, disk = store
  disk.mkdir(parents=True)
  train_tokenizer(["a dog", "a cat"], 258).save(disk / "tokenizer.json")
  there, here = load_tokenizer(f"{url}/tokenizer.json"), load_tokenizer(disk / "tokenizer.json")
  np.testing.assert_array_equal(there(["a dog"]), here(["a dog"]))
  (disk / "tokenizer.json").write_text("{}")
  with pytest.raises(ValueError, match=r"'teststore://bucket/tokenizer\.json' is not a tokenizer's JSON file"):
    load_tokenizer(f"{url}/tokenizer.json")


def test_captions_and_texts_in_a_bucket_are_those_on_a_disk(store):
  url, disk = store
  images_of(disk)
  here, there = load_captioned(disk / "captions.csv", size=16), load_captioned(f"{url}/captions.csv", size=16)
  np.testing.assert_array_equal(here.images[:], there.images[:])
  assert here.captions == there.captions
  (disk / "text.txt").write_text("some words " * 50)
  assert load_texts(f"{url}/text.txt") == load_texts(disk / "text.txt")


@pytest.mark.parametrize("column, call", [("label", load), ("caption", load_captioned)])
def test_a_table_of_images_cannot_name_a_bucket(tmp_path, monkeypatch, column, call):
  monkeypatch.chdir(tmp_path)
  Path("table.csv").write_text(f"path,{column}\ngs://bucket/1.png,a\n")
  with pytest.raises(ValueError, match=r"line 2: expected a path relative to the file, got 'gs://bucket/1\.png'"):
    call("table.csv")


@pytest.mark.parametrize("name", ["none", "none.csv", "none.npz"])
def test_data_that_are_not_in_the_bucket_are_said_to_be_missing(store, name):
  with pytest.raises(FileNotFoundError, match=f"teststore://bucket/{name}"):
    load(f"{store[0]}/{name}")


# ---- a run

FLAGS = ["--size", "16", "--filters", "4", "--ways", "2", "--shots", "1", "--queries", "2", "--tasks", "2",
         "--test", "2w1s", "--test-queries", "2", "--test-tasks", "6", "--validation-tasks", "6",
         "--validate-every", "20", "--steps", "60", "--checkpoint-every", "10", "--devices", "1",
         "--preset", "paper"]  # fmt: skip
PROGRAM = """
import sys
import object_store
object_store.register()
from experiments import evaluate, prototypical
from metajax.experiment import command, driver
if "evaluate" in sys.argv:
  sys.argv.remove("evaluate")
  command(evaluate.main)
else:
  driver.main(prototypical.build, prototypical.PRESETS)
"""
ENVIRONMENT = {"PYTHONPATH": f"{ROOT / 'tests'}{os.pathsep}{ROOT}"}
TIMES = {"time", "seconds", "steps_per_second", "data_wait_fraction", "rows_per_second", "goodput"}


def begin(*arguments, slow=False):
  environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": jax.config.jax_compilation_cache_dir}
  environment |= ENVIRONMENT | ({"TESTSTORE_SECONDS": "0.02"} if slow else {})
  pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
  return subprocess.Popen([sys.executable, "-c", PROGRAM, *arguments], env=environment, **pipes)


def ended(process, status=0):
  said, _ = process.communicate(timeout=240)
  assert process.returncode == status, said
  return said


def complete(folder):
  return [path.parent for path in folder.glob("[0-9]*/commit_success.txt")]


def left(folder):
  """What a run has come to: its scores, its last parameters and optimizer, its metrics without the times."""
  records = json.loads((folder / "records.json").read_text())
  rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
  rows = [{name: value for name, value in row.items() if name not in TIMES} for row in rows]
  with Checkpoints(folder / "checkpoints") as checkpoints:
    arrays = checkpoints._read(60, arrays=managers.ocp.args.StandardRestore())["arrays"]
  return [(r["learner"], r["value"], r["interval"]) for r in records], rows, arrays


@pytest.mark.slow
def test_a_run_in_a_store_without_append_and_rename_is_killed_goes_on_and_is_evaluated_there(store, tmp_path):
  url, disk = store
  images_of(disk)
  ended(begin(*FLAGS, "--data", str(disk / "set.npz"), "--folder", str(tmp_path / "whole")))

  data, folder = f"{url}/set.npz", disk / "runs/mine"
  process = begin(*FLAGS, "--data", data, "--folder", f"{url}/runs/mine", slow=True)
  until = time.monotonic() + 120
  while not (len(complete(folder / "checkpoints")) >= 2 and len(list((folder / "checkpoints").glob("*"))) > 2):
    assert process.poll() is None and time.monotonic() < until, process.communicate()[0]
    time.sleep(0.003)
  process.kill()  # while a checkpoint is being put
  ended(process, -signal.SIGKILL)
  assert len(list((folder / "checkpoints").glob("*"))) > len(complete(folder / "checkpoints"))
  assert list(folder.glob("metrics.jsonl.part-*")) and not (folder / "records.json").exists()

  said = ended(begin("--folder", f"{url}/runs/mine", "--resume"))
  assert "resuming after step" in said and "its claim is stale" in said
  chex.assert_trees_all_equal(left(folder), left(tmp_path / "whole"))
  assert "prototypical" in (folder / "index.html").read_text() and (folder / "export/config.json").exists()
  assert not list(folder.rglob("*.part-*")) and not (folder / ".claim").exists()
  sizes = ["--ways", "2", "--shots", "1", "--num-tasks", "6", "--queries", "2"]
  evaluated = ended(begin("evaluate", f"{url}/runs/mine", *sizes))
  (written,) = folder.glob("evaluation-*.json")
  assert url in evaluated and json.loads(written.read_text())[0]["learner"] == "prototypical"
  program = f"import object_store as s; s.register(); import metajax; print(metajax.load('{url}/runs/mine'))"
  again = subprocess.run([sys.executable, "-c", program], env=os.environ | ENVIRONMENT, capture_output=True, text=True)
  assert "16 x 16 pixels" in again.stdout, again.stderr
  assert not any(tmp_path.glob("teststore:*")) and not (ROOT / "teststore:").exists()
