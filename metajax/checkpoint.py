"""Checkpoints: whole or not at all, written while training goes on, checked when they are read."""

import errno
import json
import math
import os
import shutil
import warnings
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from etils import epy

from metajax import checks
from metajax.tree import is_integer, is_key

with epy.lazy_imports():
  import orbax.checkpoint as ocp

OVERHEAD = 2**18  # bytes of a checkpoint beside its arrays, generously


class Checkpoints:
  """The checkpoints of one run in a folder: the newest `keep`, and the best one.

  A checkpoint is a pytree of arrays (a TrainState) with a note of plain JSON values. It is written in the background
  to a scratch folder that is renamed when all is on disk, so a run killed at any moment leaves only whole ones. Every
  array is saved under its path in the tree with a fingerprint of its bits, so what is read is what was written, on
  any number of devices. Use it as a context manager, or call `close`.

  Args:
    folder: on this machine, made at the first save; `~` is the home folder.
    keep: how many of the newest to keep, at least 1; the best one is kept beside them.

  Raises:
    ValueError: if `keep` is below 1, or the folder is remote (`gs://`).
  """

  def __init__(self, folder: Path | str, keep: int = 3):
    checks.count("keep", keep)
    self.folder = checks.local_path("the folder of checkpoints", folder).absolute()
    self._keep = keep
    self._best = None
    self._opened, self._writes = None, False

  def steps(self) -> list[int]:
    """The steps that there are whole checkpoints of, in order."""
    return sorted(self._manager().all_steps()) if self.folder.is_dir() else []

  def save(self, step: int, tree: Any, note: dict, best: int | None = None):
    """Writes a checkpoint in the background, and drops those that are no longer kept.

    Checkpoints of this step and later ones make room: a run that resumed before them could not read them.

    Args:
      step: of the checkpoint.
      tree: arrays; they may be donated as soon as this returns.
      note: plain JSON values.
      best: the step of the best checkpoint so far, which is kept.

    Raises:
      OSError: if this or the one before cannot be written, naming the last whole one.
    """
    self.wait()
    self._best = best
    arrays = jax.tree.map(jnp.copy, _flatten(tree))  # a donated buffer would change while it is written
    prints = {name: int(x) for name, x in jax.device_get(_fingerprints(arrays)).items()}
    shapes = _shapes(arrays)
    stored = ocp.args.StandardSave({name: x for name, x in arrays.items() if x.size})
    # A copy: it is written later, when the caller's lists may have grown.
    about = json.loads(json.dumps({"note": note, "shapes": shapes, "fingerprints": prints}))
    about = ocp.args.JsonSave({"about": about, "crc32": _crc32(about)})
    try:
      _check_space(self.folder, sum(x.nbytes for x in arrays.values()) + OVERHEAD)
      manager = self._manager(writes=True)
      for late in manager.all_steps():
        if late >= step:
          manager.delete(late)
      manager.save(step, args=ocp.args.Composite(arrays=stored, about=about), force=True)
    except Exception as error:
      raise self._not_written(error) from error

  def check_savable(self, tree: Any):
    """Finds before a long run that a tree cannot be saved.

    Raises:
      ValueError: if two of its arrays have the same path.
    """
    jax.eval_shape(_fingerprints, _flatten(tree))

  def restore(self, like: Any, step: int | None = None) -> tuple[int, Any, dict] | None:
    """The newest checkpoint that can be read, as `(step, tree, note)`; None where there is none.

    One that is truncated or corrupt is skipped with a warning.

    Args:
      like: a tree of arrays of the same structure: their types and shardings are given to what is read.
      step: read this one or none.

    Raises:
      ValueError: if a checkpoint is of another learner or network, naming the first parameter that differs.
    """
    for found in reversed(self.steps() if step is None else [step]):
      try:
        note, shapes, prints = (self._about(found)[key] for key in ("note", "shapes", "fingerprints"))
      except Exception as error:
        self._warn(found, error)
        continue
      wanted = _flatten(like)
      _check_same(self.folder / str(found), shapes, _shapes(wanted))
      try:
        target = {n: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding) for n, x in wanted.items() if x.size}
        arrays = {**wanted, **self._read(found, arrays=ocp.args.StandardRestore(target))["arrays"]}
        damaged = [n for n, x in jax.device_get(_fingerprints(arrays)).items() if int(x) != prints[n]]
        if damaged:
          raise ValueError(f"{damaged[0]} is not what was saved")
      except Exception as error:
        self._warn(found, error)
        continue
      return found, _unflatten(like, arrays), note
    return None

  def check(self, like: Any):
    """Compares the newest checkpoint that can be read with a part of what is to be restored, or its shapes.

    Args:
      like: `{name: tree}` of arrays or `jax.ShapeDtypeStruct`s, e.g. {"params": ...}.

    Raises:
      ValueError: if it is of another learner or network, naming the first parameter that differs.
    """
    wanted = _shapes(dict(_named(like)))
    for found in reversed(self.steps()):
      try:
        shapes = self._about(found)["shapes"]
      except Exception:
        continue
      there = {name: of for name, of in shapes.items() if name.split(".")[0] in like}
      return _check_same(self.folder / str(found), there, wanted) if there else None

  def wait(self):
    """Returns when what was saved is on disk.

    Raises:
      OSError: if it could not be written, naming the last whole checkpoint.
    """
    if self._opened is None:
      return
    try:
      self._opened.wait_until_finished()
    except Exception as error:
      raise self._not_written(error) from error

  def close(self):
    """Waits, and ends the threads that write. Raises as `wait` does."""
    try:
      self.wait()
    finally:
      if self._opened is not None:
        self._opened.close()
        self._opened = None

  def __enter__(self):
    return self

  def __exit__(self, kind, error, trace):
    try:
      self.close()
    except OSError:
      if error is None:  # the error that is under way says more
        raise

  def _manager(self, writes=False):
    if self._opened is None or (writes and not self._writes):
      if self._opened is not None:
        self._opened.close()
      options = ocp.CheckpointManagerOptions(
        save_decision_policy=ocp.checkpoint_managers.FixedIntervalPolicy(1),
        preservation_policy=_Kept(self._keep, lambda: self._best),
        create=writes,  # a run may be evaluated from a folder that cannot be written
        cleanup_tmp_directories=writes,  # what a kill left half-written
      )
      self._opened, self._writes = ocp.CheckpointManager(self.folder, options=options), writes
    return self._opened

  def _read(self, step, **items):
    return self._manager().restore(step, args=ocp.args.Composite(**items))

  def _about(self, step):
    stored = self._read(step, about=ocp.args.JsonRestore())["about"]
    if stored["crc32"] != _crc32(stored["about"]):
      raise ValueError("its description is not what was saved")
    return stored["about"]

  def _warn(self, step, error):
    said = f"the checkpoint {self.folder / str(step)} cannot be read and is skipped: {_first_line(error)}"
    warnings.warn(said, stacklevel=3)

  def _not_written(self, error):
    there = [int(path.name) for path in self.folder.glob("*") if path.name.isdigit()]
    last = f"the last one there is of step {max(there)}" if there else "there is none yet"
    return OSError(f"a checkpoint cannot be written to {self.folder}: {_first_line(error)}; {last}")


class _Kept:
  """Orbax's `PreservationPolicy`: the newest few, and the best."""

  def __init__(self, newest, best):
    self._newest, self._best = newest, best

  def should_preserve(self, checkpoints: Sequence, *, context) -> list[bool]:
    oldest = len(checkpoints) - self._newest
    return [i >= oldest or at.step == self._best() for i, at in enumerate(checkpoints)]


def _flatten(tree) -> dict[str, jax.Array]:
  """`{path in the tree: array}`; PRNG keys as their data."""
  flat = {}
  for name, leaf in _named(tree):
    if name in flat:
      raise ValueError(f"expected paths that differ in a tree to save, got {name!r} twice")
    flat[name] = jax.random.key_data(leaf) if is_key(leaf) else jnp.asarray(leaf)
  return flat


def _named(tree):
  for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
    yield jax.tree_util.keystr(path, simple=True, separator="."), leaf


def _shapes(arrays) -> dict[str, list]:
  """`{name: [type, shape]}`, as JSON has it."""
  return {name: [str(x.dtype), list(x.shape)] for name, x in arrays.items()}


def _unflatten(like, arrays):
  leaves = [
    jax.random.wrap_key_data(array, impl=jax.random.key_impl(leaf)) if is_key(leaf) else array
    for leaf, array in zip(jax.tree.leaves(like), (arrays[name] for name in _flatten(like)), strict=True)
  ]
  return jax.tree.unflatten(jax.tree.structure(like), leaves)


def _crc32(about: dict) -> int:
  return zlib.crc32(json.dumps(about, sort_keys=True).encode())


@jax.jit
def _fingerprints(arrays):
  """For each array the sum of its words, each mixed one to one with its place, modulo 2^32.

  Any single word that differs changes it, and a sum of integers is the same on any number of devices.
  """

  def fingerprint(x):
    if x.dtype == bool or (is_integer(x) and jnp.iinfo(x.dtype).bits < 8):
      x = x.astype(jnp.int8)
    if jnp.issubdtype(x.dtype, jnp.floating) and jnp.finfo(x.dtype).bits < 8:
      x = x.astype(jnp.float32)
    if jnp.issubdtype(x.dtype, jnp.complexfloating):
      x = jnp.stack([x.real, x.imag])
    width = min(x.dtype.itemsize, 4)
    words = jax.lax.bitcast_convert_type(x, jnp.dtype(f"uint{8 * width}")).astype(jnp.uint32)
    place = jax.lax.iota(jnp.uint32, math.prod(words.shape)).reshape(words.shape)
    mixed = (words ^ (place * jnp.uint32(0x85EBCA6B))) * jnp.uint32(0x9E3779B1)
    return jnp.sum((mixed ^ (mixed >> 16)) * jnp.uint32(0xC2B2AE35), dtype=jnp.uint32)

  return {name: fingerprint(x) for name, x in arrays.items()}


def _check_same(path, there, wanted):
  for name in [*wanted, *there]:
    if there.get(name) != wanted.get(name):
      said = [f"{name} {at[name][0]} {at[name][1]}" if name in at else f"no {name}" for at in (wanted, there)]
      raise ValueError(f"expected a checkpoint of this learner, with {said[0]}, got one with {said[1]} in {path}")


def _check_space(folder: Path, needed: int):
  """Finds before anything is written that it will not fit: orbax says so in hundreds of lines."""
  there = next((path for path in (folder, *folder.parents) if path.is_dir()), None)
  free = math.inf if there is None else shutil.disk_usage(there).free
  if free < needed:
    raise OSError(f"{os.strerror(errno.ENOSPC)}: it takes {needed / 1e6:.1f} MB, and {free / 1e6:.1f} MB are free")


def _first_line(error: BaseException) -> str:
  """What went wrong at the root, in one line."""
  while error.__cause__ is not None:
    error = error.__cause__
  said = next(iter(str(error).splitlines()), "") or type(error).__name__
  if isinstance(error, OSError):
    said = said.removeprefix(f"[Errno {error.errno}] ")
  known = [os.strerror(number) for number in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)]
  # The file system's own word, out of a long line of scratch files.
  return next((word for word in known if word in said and len(said) > 200), said)
