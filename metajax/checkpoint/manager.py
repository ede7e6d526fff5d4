"""Orbax's checkpoint manager: the retention and cleanup policy, and which folders it writes itself."""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path

from etils import epy

from metajax.checkpoint.staged import StagedManager
from metajax.mesh import process_shard
from metajax.paths import place, remote

with epy.lazy_imports():  # takes half a second, and `--help` does not need it
  import orbax.checkpoint as ocp


TOGETHER = "gs://"  # buckets that orbax writes from several hosts together, without renames
NEEDED = "google.cloud.storage"  # by orbax, to delete there


def checked_folder(folder: Path | str) -> Path:
  """A folder for checkpoints: an absolute path, or one in a bucket.

  Raises:
    ValueError: if it is a URL of a scheme that is not opened here, or one that several hosts cannot write together.
  """
  found = place("the folder of checkpoints", folder)
  if not remote(found):
    return found.absolute()
  if process_shard()[1] > 1 and not str(found).startswith(TOGETHER):
    given = f"got {str(found)!r}, which one host alone can write"
    raise ValueError(f"expected checkpoints of several hosts on a disk that all see, or of {TOGETHER}, {given}")
  if process_shard()[1] > 1 and not _installed(NEEDED):
    packages = "pip install google-cloud-storage google-cloud-storage-control"
    raise ValueError(f"expected what several hosts need to write checkpoints to {str(found)!r}, got none: {packages}")
  return found


def is_staged(folder: Path) -> bool:
  """Whether checkpoints go to a disk first: those of one host to a bucket."""
  return remote(folder) and process_shard()[1] == 1


def _installed(module: str) -> bool:
  with contextlib.suppress(ModuleNotFoundError):  # of a package that it is in
    return importlib.util.find_spec(module) is not None
  return False


def open_manager(
  folder: Path, newest: int, best: Callable[[], int | None], writes: bool
) -> ocp.CheckpointManager | StagedManager:
  """Opens the manager of a folder; it keeps the newest few and the best, and is read-only unless `writes`."""
  if not is_staged(folder):
    return _orbax(folder, newest, best, writes)
  return StagedManager(folder, newest, best, writes, lambda disk, writes: _orbax(disk, 1, lambda: None, writes))


def _orbax(folder: Path, newest: int, best: Callable[[], int | None], writes: bool) -> ocp.CheckpointManager:
  options = ocp.CheckpointManagerOptions(
    save_decision_policy=ocp.checkpoint_managers.FixedIntervalPolicy(1),
    preservation_policy=_Kept(newest, best),
    create=writes,  # a run may be evaluated from a read-only folder
    cleanup_tmp_directories=writes,  # removes half-written checkpoints of a killed run
  )
  return ocp.CheckpointManager(folder, options=options)


class _Kept:
  """Orbax's `PreservationPolicy`: the newest few, and the best."""

  def __init__(self, newest, best):
    self._newest, self._best = newest, best

  def should_preserve(self, checkpoints: Sequence, *, context) -> list[bool]:
    oldest = len(checkpoints) - self._newest
    return [i >= oldest or at.step == self._best() for i, at in enumerate(checkpoints)]
