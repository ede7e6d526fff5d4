"""Orbax's checkpoint manager: the retention and cleanup policy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from etils import epy

with epy.lazy_imports():  # takes half a second, and `--help` does not need it
  import orbax.checkpoint as ocp


def open_manager(folder: Path, newest: int, best: Callable[[], int | None], writes: bool) -> ocp.CheckpointManager:
  """Opens orbax's manager of a folder; it keeps the newest few and the best, and is read-only unless `writes`."""
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
