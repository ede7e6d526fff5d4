"""Checkpoints: what is read is what was written, or it is skipped; the last whole one survives whatever happens."""

import errno
import os
import shutil
import subprocess
import warnings

import chex
import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
import pytest

from metajax import make_mesh
from metajax.checkpoint import Checkpoints
from metajax.checkpoint import checkpoints as module
from metajax.mesh import replicate


def tree(seed=0, width=5):
  key = jax.random.key(seed)
  normal = jax.random.normal(key, (width, 3))
  return {
    "params": {"weight": normal, "half": normal.astype(jnp.bfloat16), "none": jnp.zeros((0, 2))},
    "optimizer_state": (jnp.ones((width,)), {"count": jnp.int32(seed)}),
    "flags": jnp.array([True, False]),
    "key": key,
  }


def same(found, expected):
  bits = lambda t: jax.tree.map(
    lambda x: jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x, t
  )
  chex.assert_trees_all_equal(bits(found), bits(expected))
  chex.assert_trees_all_equal_dtypes(bits(found), bits(expected))


def saved(folder, steps=3, **settings):
  with Checkpoints(folder, **settings) as checkpoints:
    for step in range(1, steps + 1):
      checkpoints.save(step, tree(step), {"window": [0.1 * step]})
  return folder


@pytest.fixture(scope="module")
def three(tmp_path_factory):
  """A folder with the checkpoints of steps 1 to 3."""
  return saved(tmp_path_factory.mktemp("three") / "checkpoints")


def test_what_is_restored_is_what_was_saved_to_the_bit(three):
  step, found, note = Checkpoints(three).restore(tree())
  assert step == 3 and note == {"window": [0.1 * 3]}
  same(found, tree(3))


def test_a_chosen_step_is_restored_where_it_is_asked_for(three):
  same(Checkpoints(three).restore(tree(), step=2)[1], tree(2))


def test_nothing_is_restored_from_nothing_and_nothing_is_made(tmp_path):
  assert Checkpoints(tmp_path / "none").restore(tree()) is None
  assert not (tmp_path / "none").exists()


def test_the_newest_and_the_best_are_kept(tmp_path):
  with Checkpoints(tmp_path, keep=2) as checkpoints:
    for step in range(1, 7):
      checkpoints.save(step, tree(step), {}, best=max(1, 2 * (step // 3)))  # 1, then 2, then 4
  assert Checkpoints(tmp_path).steps() == [4, 5, 6]


def test_later_checkpoints_make_room_for_one_that_is_saved_before_them(tmp_path):
  with Checkpoints(saved(tmp_path)) as checkpoints:
    checkpoints.save(2, tree(7), {})
  assert Checkpoints(tmp_path).steps() == [1, 2]
  same(Checkpoints(tmp_path).restore(tree())[1], tree(7))


def test_an_array_that_is_given_away_right_after_the_save_is_saved_as_it_was(tmp_path):
  overwrite = jax.jit(lambda t: jax.tree.map(lambda x: x * 0 - 1, t), donate_argnums=0)
  with Checkpoints(tmp_path) as checkpoints:
    for step in range(1, 4):
      given = {"weight": jnp.full((1000, 100), float(step))}
      checkpoints.save(step, given, {})
      overwrite(given)
    assert checkpoints.restore({"weight": jnp.zeros((1000, 100))})[1]["weight"].min() == 3


def test_a_note_that_grows_right_after_the_save_is_saved_as_it_was(tmp_path):
  window = []
  with Checkpoints(tmp_path, keep=9) as checkpoints:
    for step in range(1, 5):
      window.append(step)
      checkpoints.save(step, {"step": jnp.int32(step)}, {"window": window})
  for step in range(1, 5):
    assert Checkpoints(tmp_path).restore({"step": jnp.int32(0)}, step)[2]["window"] == list(range(1, step + 1))


def spoilt(path, how):
  content = path.read_bytes()
  if how == "truncated":
    path.write_bytes(content[: len(content) // 2])
  elif how == "emptied":
    path.write_bytes(b"")
  elif how == "missing":
    path.unlink()
  else:
    middle = len(content) // 2
    path.write_bytes(content[:middle] + bytes([content[middle] ^ 4]) + content[middle + 1 :])


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of orbax, whose reads are cut off
@pytest.mark.parametrize("how", ["truncated", "flipped", "emptied", "missing"])
def test_whatever_file_is_spoilt_the_checkpoint_is_whole_or_skipped_with_a_warning(three, tmp_path, how):
  skipped = 0
  for file in sorted(p.relative_to(three) for p in (three / "3").rglob("*") if p.is_file()):
    folder = tmp_path / "copy"
    shutil.copytree(three, folder)
    spoilt(folder / file, how)
    with warnings.catch_warnings(record=True) as said:
      warnings.simplefilter("always")
      step, found, _ = Checkpoints(folder).restore(tree())
    same(found, tree(step))
    if step == 2:
      skipped += 1
      assert any(f"the checkpoint {folder / '3'} cannot be read and is skipped" in str(w.message) for w in said)
    else:
      assert step == 3
    shutil.rmtree(folder)
  assert skipped >= 3


def test_a_run_goes_on_saving_after_a_spoilt_checkpoint(three, tmp_path):
  shutil.copytree(three, tmp_path / "copy")
  spoilt(tmp_path / "copy" / "3" / "about" / "metadata", "truncated")
  with Checkpoints(tmp_path / "copy") as checkpoints, pytest.warns(match="is skipped"):
    assert checkpoints.restore(tree())[0] == 2
    checkpoints.save(3, tree(9), {})
  same(Checkpoints(tmp_path / "copy").restore(tree())[1], tree(9))


def test_what_a_kill_left_half_written_is_not_a_checkpoint_and_is_cleared_away(three, tmp_path):
  folder = tmp_path / "copy"
  shutil.copytree(three, folder)
  half = folder / "4.orbax-checkpoint-tmp-77"
  shutil.copytree(three / "3", half)
  with Checkpoints(folder) as checkpoints:
    assert checkpoints.steps() == [1, 2, 3]
    checkpoints.save(4, tree(4), {})
  assert not half.exists() and Checkpoints(folder).steps() == [2, 3, 4]


@pytest.mark.parametrize(
  ("change", "message"),
  [
    (lambda t: t | {"params": t["params"] | {"weight": jnp.zeros((5, 4))}},
     r"params.weight float32 \[5, 4\], got one with params.weight float32 \[5, 3\] in .*3"),
    (lambda t: t | {"params": {"bias": jnp.zeros(3), **t["params"]}},
     r"params.bias float32 \[3\], got one with no params.bias"),
    (lambda t: t | {"params": {"weight": t["params"]["weight"]}},
     r"no params.half, got one with params.half bfloat16 \[5, 3\]"),
  ],
  ids=["shape", "more", "fewer"],
)  # fmt: skip
def test_a_checkpoint_of_another_network_is_refused_by_its_first_parameter_that_differs(three, change, message):
  other = change(tree())
  with pytest.raises(ValueError, match=f"expected a checkpoint of this learner, with {message}"):
    Checkpoints(three).restore(other)
  shapes = jax.eval_shape(lambda: other["params"])
  with pytest.raises(ValueError, match=f"expected a checkpoint of this learner, with {message}"):
    Checkpoints(three).check({"params": shapes})


def test_a_part_that_fits_is_not_refused(three, tmp_path):
  Checkpoints(three).check({"params": tree()["params"]})
  Checkpoints(tmp_path / "none").check({"params": tree()["params"]})


def test_params_under_an_earlier_versions_name_are_restored(tmp_path):
  tower = {"encoder": {"weight": jnp.arange(6.0).reshape(2, 3)}}
  before = {"params": {"picture": tower, "text": jnp.ones(2)}, "optimizer_state": ({"mu": {"picture": tower}},)}
  now = {"params": {"image": tower, "text": jnp.ones(2)}, "optimizer_state": ({"mu": {"image": tower}},)}
  with Checkpoints(tmp_path) as checkpoints:
    checkpoints.save(1, before, {})
  with Checkpoints(tmp_path) as checkpoints:
    checkpoints.check({"params": now["params"]})
    _, found, _ = checkpoints.restore(jax.tree.map(jnp.zeros_like, now))
  same(found, now)


@pytest.mark.parametrize("devices", [1, 4])
def test_what_eight_devices_saved_others_restore(tmp_path, devices):
  with jax.set_mesh(make_mesh(8)), Checkpoints(tmp_path) as checkpoints:
    checkpoints.save(1, replicate(tree(1)), {})
  with jax.set_mesh(make_mesh(devices)):
    _, found, _ = Checkpoints(tmp_path).restore(replicate(tree()))
  same(found, tree(1))
  assert len(found["params"]["weight"].sharding.device_set) == devices


def test_keeping_none_is_refused(tmp_path):
  with pytest.raises(ValueError, match="expected keep to be a whole number of at least 1, got 0"):
    Checkpoints(tmp_path, keep=0)


def test_a_folder_that_cannot_be_read_from_is_no_checkpoint_lost(three, tmp_path):
  """A read-only copy can be restored from: nothing is written where nothing is saved."""
  before = sorted(three.rglob("*"))
  same(Checkpoints(three).restore(tree())[1], tree(3))
  assert sorted(three.rglob("*")) == before


@pytest.fixture
def small_disk(tmp_path):
  """A folder on a disk of 2 MiB."""
  disk = tmp_path / "disk"
  disk.mkdir()
  mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", disk], capture_output=True)
  if mount.returncode:
    pytest.skip("a disk of its own cannot be mounted here")
  yield disk
  subprocess.run(["umount", disk], check=True)


@pytest.mark.parametrize("seen", ["before", "while writing"])
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_full_disk_leaves_the_last_checkpoint_whole_and_says_so(small_disk, monkeypatch, seen):
  if seen == "while writing":
    monkeypatch.setattr(module, "check_space", lambda folder, needed: None)
  noise = lambda step: {"weight": jax.random.normal(jax.random.key(step), (200_000,))}  # 0.8 MB
  checkpoints = Checkpoints(small_disk / "run", keep=5)
  with pytest.raises(
    OSError, match=r"be written to .*: No space left on device.*; the last complete one is of step \d"
  ):
    for step in range(1, 6):
      checkpoints.save(step, noise(step), {})
  step, found, _ = Checkpoints(small_disk / "run").restore(noise(0))
  assert step >= 1
  chex.assert_trees_all_equal(found, noise(step))


@pytest.mark.parametrize("more", [(), ("a/scratch/file",), ("a/scratch/file " * 20,)])
def test_whoever_notices_a_full_disk_it_is_said_alike(tmp_path, monkeypatch, more):
  def full(*_, **__):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), *more)

  monkeypatch.setattr(ocp.CheckpointManager, "save", full)
  with pytest.raises(OSError, match=r"be written to .*: No space left on device.*; none is complete yet"):
    Checkpoints(tmp_path / "run").save(1, tree(), {})


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
  (tmp_path / "file").write_text("not a folder")
  with pytest.raises(OSError, match=f"a checkpoint cannot be written to {tmp_path}/file/run: .*; none is complete yet"):
    Checkpoints(tmp_path / "file" / "run").save(1, tree(), {})
  assert os.listdir(tmp_path) == ["file"]
