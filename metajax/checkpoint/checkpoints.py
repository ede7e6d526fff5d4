"""The checkpoints of one run: written in the background, and verified when read."""

import contextlib
import tempfile
import warnings
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from etils import epy

from metajax import checks
from metajax.checkpoint.about import checked, described
from metajax.checkpoint.arrays import (
  check_same,
  fingerprints,
  flatten,
  like_array,
  named,
  saved_names,
  shapes,
  unflatten,
)
from metajax.checkpoint.failures import check_space, first_line
from metajax.checkpoint.manager import checked_folder, is_staged, open_manager
from metajax.checkpoint.staged import is_complete
from metajax.paths import exists, remote

with epy.lazy_imports():
  import orbax.checkpoint as ocp

OVERHEAD = 2**18  # upper bound on the bytes of a checkpoint besides its arrays


class Checkpoints:
  """The checkpoints of one run in a folder: the newest `keep`, and the best one.

  A checkpoint is a pytree of arrays (a TrainState) with a note of plain JSON values. It is written in the background to
  a scratch folder that is renamed once everything is on disk, so a run killed at any moment leaves only complete
  checkpoints. Each array is saved under its path in the tree with a fingerprint of its bits, so corruption is detected;
  it can be read on any number of devices. Use it as a context manager, or call `close`.

  Args:
    folder: Folder, created at the first save; `~` is expanded. In a bucket (`gs://bucket/run`) a checkpoint is complete
      with the object `commit_success.txt`, instead of the rename.
    keep: Number of newest checkpoints to keep, at least 1; the best one is kept in addition.

  Raises:
    ValueError: if `keep` is below 1, or the folder is a URL of a scheme that is not opened here, or
      that several hosts cannot write together.

  Example:
    >>> import tempfile, jax.numpy as jnp
    >>> from metajax import Checkpoints
    >>> with tempfile.TemporaryDirectory() as folder, Checkpoints(folder) as checkpoints:
    ...   checkpoints.save(10, {"weight": jnp.ones(3)}, note={"loss": 0.5})
    ...   checkpoints.wait()
    ...   step, tree, note = checkpoints.restore(like={"weight": jnp.zeros(3)})
    >>> step, note, tree["weight"].tolist()
    (10, {'loss': 0.5}, [1.0, 1.0, 1.0])
  """

  def __init__(self, folder: Path | str, keep: int = 3):
    checks.count("keep", keep)
    self.folder = checked_folder(folder)
    self._keep = keep
    self._best = None
    self._opened, self._writes = None, False

  def steps(self) -> list[int]:
    """Returns the steps of all complete checkpoints, in ascending order."""
    there = exists(self.folder) if remote(self.folder) else self.folder.is_dir()
    return sorted(self._manager().all_steps()) if there else []

  def save(self, step: int, tree: Any, note: dict, best: int | None = None):
    """Writes a checkpoint in the background, and deletes those that are no longer kept.

    Existing checkpoints of this step and later ones are deleted first: a run resumes before them only if they cannot be
    read.

    Args:
      step: Step of the checkpoint.
      tree: Pytree of arrays; they may be donated as soon as this returns.
      note: Dictionary of plain JSON values.
      best: Step of the best checkpoint so far, which is kept.

    Raises:
      OSError: if this checkpoint or the previous one cannot be written; names the last complete one.
    """
    self.wait()
    self._best = best
    arrays = jax.tree.map(jnp.copy, flatten(tree))  # a donated buffer would change while it is written
    prints = {name: int(x) for name, x in jax.device_get(fingerprints(arrays)).items()}
    stored = ocp.args.StandardSave({name: x for name, x in arrays.items() if x.size})
    about = ocp.args.JsonSave(described(note, shapes(arrays), prints))
    try:
      disk = Path(tempfile.gettempdir()) if is_staged(self.folder) else self.folder
      check_space(disk, sum(x.nbytes for x in arrays.values()) + OVERHEAD)
      manager = self._manager(writes=True)
      for late in manager.all_steps():
        if late >= step:
          manager.delete(late)
      manager.save(step, args=ocp.args.Composite(arrays=stored, about=about), force=True)
    except Exception as error:
      raise self._not_written(error) from error

  def check_savable(self, tree: Any):
    """Checks that a tree can be saved, before a long run.

    Raises:
      ValueError: if two of its arrays have the same path.
    """
    jax.eval_shape(fingerprints, flatten(tree))

  def restore(self, like: Any, step: int | None = None) -> tuple[int, Any, dict] | None:
    """Restores the newest readable checkpoint; truncated or corrupt ones are skipped with a warning.

    Args:
      like: Tree of arrays of the same structure, whose types and shardings the result gets.
      step: Step of the only checkpoint to try; by default all are tried, newest first.

    Returns:
      `(step, tree, note)`, or None if no checkpoint can be read.

    Raises:
      ValueError: if a checkpoint is of another learner or network; names the first parameter that differs.
    """
    for found in reversed(self.steps() if step is None else [step]):
      try:
        note, there, prints = (self._about(found)[key] for key in ("note", "shapes", "fingerprints"))
      except Exception as error:
        self._warn(found, error)
        continue
      wanted = flatten(like)
      saved = saved_names(wanted, there)
      check_same(self.folder / str(found), there, shapes({saved[n]: x for n, x in wanted.items()}))
      try:
        target = {saved[n]: like_array(x) for n, x in wanted.items() if x.size}
        read = self._read(found, arrays=ocp.args.StandardRestore(target))["arrays"]
        arrays = {n: read.get(saved[n], x) for n, x in wanted.items()}
        damaged = [n for n, x in jax.device_get(fingerprints(arrays)).items() if int(x) != prints[saved[n]]]
        if damaged:
          raise ValueError(f"{damaged[0]} differs from its saved fingerprint")
      except Exception as error:
        self._warn(found, error)
        continue
      return found, unflatten(like, arrays), note
    return None

  def check(self, like: Any):
    """Checks the shapes of the newest readable checkpoint against part of the expected tree.

    Args:
      like: `{name: tree}` of arrays or `jax.ShapeDtypeStruct`s, e.g. {"params": ...}.

    Raises:
      ValueError: if the checkpoint is of another learner or network; names the first parameter that differs.
    """
    wanted = dict(named(like))
    for found in reversed(self.steps()):
      try:
        saved = self._about(found)["shapes"]
      except Exception:
        continue
      there = {name: of for name, of in saved.items() if name.split(".")[0] in like}
      names = saved_names(wanted, there)
      wanted = shapes({names[name]: x for name, x in wanted.items()})
      return check_same(self.folder / str(found), there, wanted) if there else None

  def wait(self):
    """Waits until the saved checkpoint is on disk.

    Raises:
      OSError: if it could not be written; names the last complete checkpoint.
    """
    if self._opened is None:
      return
    try:
      self._opened.wait_until_finished()
    except Exception as error:
      raise self._not_written(error) from error

  def close(self):
    """Waits for pending writes and ends the writer threads. Raises OSError as `wait` does."""
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
      if error is None:  # otherwise the exception in flight is more informative
        raise

  def _manager(self, writes=False):
    if self._opened is None or (writes and not self._writes):
      if self._opened is not None:
        self._opened.close()
      self._opened, self._writes = open_manager(self.folder, self._keep, lambda: self._best, writes), writes
    return self._opened

  def _read(self, step, **items):
    return self._manager().restore(step, args=ocp.args.Composite(**items))

  def _about(self, step):
    return checked(self._read(step, about=ocp.args.JsonRestore())["about"])

  def _warn(self, step, error):
    said = f"the checkpoint {self.folder / str(step)} cannot be read and is skipped: {first_line(error)}"
    warnings.warn(said, stacklevel=3)

  def _not_written(self, error):
    there = []
    with contextlib.suppress(OSError):  # of a bucket that does not answer
      there = [int(path.name) for path in self.folder.glob("*") if path.name.isdigit() and is_complete(path)]
    last = f"the last complete one is of step {max(there)}" if there else "none is complete yet"
    return OSError(f"a checkpoint cannot be written to {self.folder}: {first_line(error)}; {last}")
