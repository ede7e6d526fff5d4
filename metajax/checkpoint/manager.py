"""What of a run's checkpoints orbax keeps, and when it cleans up."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from etils import epy

with epy.lazy_imports():  # half a second, which `--help` does not need
  import orbax.checkpoint as ocp


def open_manager(folder: Path, newest: int, best: Callable[[], int | None], writes: bool) -> ocp.CheckpointManager:
  """Orbax's manager of a folder, which keeps the newest few and the best, and changes nothing unless it writes."""
  options = ocp.CheckpointManagerOptions(
    save_decision_policy=ocp.checkpoint_managers.FixedIntervalPolicy(1),
    preservation_policy=_Kept(newest, best),
    create=writes,  # a run may be evaluated from a folder that cannot be written
    cleanup_tmp_directories=writes,  # what a kill left half-written
  )
  return ocp.CheckpointManager(folder, options=options)


class _Kept:
  """Orbax's `PreservationPolicy`: the newest few, and the best."""

  def __init__(self, newest, best):
    self._newest, self._best = newest, best

  def should_preserve(self, checkpoints: Sequence, *, context) -> list[bool]:
    oldest = len(checkpoints) - self._newest
    return [i >= oldest or at.step == self._best() for i, at in enumerate(checkpoints)]
