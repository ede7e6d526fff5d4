"""Checkpoints of one host in a bucket: written to a disk, then put file by file, a marker last.

The files are those that orbax itself would write there from several hosts.
"""

from __future__ import annotations

import concurrent.futures
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from metajax import paths

MARKER = "commit_success.txt"  # of a complete checkpoint: orbax writes it, and reads it in gs://


def is_complete(checkpoint: Path) -> bool:
  """Whether the folder of a checkpoint is complete: one on a disk has its name only then."""
  return not paths.remote(checkpoint) or paths.exists(checkpoint / MARKER)


class StagedManager:
  """What `Checkpoints` needs of orbax's manager, in a bucket; see `open_manager`.

  A checkpoint is complete with its marker, which is put last and deleted first.

  Args:
    folder: folder in the bucket.
    newest: number of newest checkpoints to keep.
    best: `() -> step` of the best checkpoint, which is kept too.
    writes: whether to remove checkpoints that a killed run left incomplete.
    opened: `(folder, writes) -> orbax's manager` of a folder on a disk.
  """

  def __init__(
    self,
    folder: Path,
    newest: int,
    best: Callable[[], int | None],
    writes: bool,
    opened: Callable[[Path, bool], Any],
  ):
    self._folder, self._newest, self._best, self._opened = folder, newest, best, opened
    self._scratch = tempfile.TemporaryDirectory(prefix="metajax-checkpoints-")
    self._pool = concurrent.futures.ThreadPoolExecutor(1)
    self._putting: concurrent.futures.Future | None = None
    self._read: dict[int, Path] = {}
    for step in sorted(self._there() - set(self.all_steps())) if writes else ():
      paths.remove_tree(folder / str(step))

  def all_steps(self) -> list[int]:
    """The steps of the complete checkpoints."""
    with paths.store(self._folder):
      return sorted(step for step in self._there() if is_complete(self._folder / str(step)))

  def save(self, step: int, args: Any, force: bool = True):
    """Writes a checkpoint to a disk and puts it into the bucket, both in the background."""
    folder, best = Path(tempfile.mkdtemp(dir=self._scratch.name)), self._best()
    manager = self._opened(folder, True)
    manager.save(step, args=args, force=force)
    self._putting = self._pool.submit(self._put, manager, folder, step, best)

  def restore(self, step: int, args: Any) -> Any:
    """Reads items of a checkpoint, which is fetched to a disk once."""
    if step not in self._read:
      folder = Path(tempfile.mkdtemp(dir=self._scratch.name))
      paths.fetch_folder(self._folder / str(step), folder / str(step))
      self._read[step] = folder
    manager = self._opened(self._read[step], False)
    try:
      return manager.restore(step, args=args)
    finally:
      manager.close()

  def delete(self, step: int):
    """Deletes a checkpoint."""
    self._read.pop(step, None)
    paths.remove_tree(self._folder / str(step), first=MARKER)

  def wait_until_finished(self):
    """Waits until the last checkpoint is in the bucket; raises what kept it from there."""
    if self._putting is not None:
      putting, self._putting = self._putting, None
      putting.result()

  def close(self):
    """Ends the thread, and deletes what is on the disk."""
    self._pool.shutdown()
    self._scratch.cleanup()

  def _there(self) -> set[int]:
    with paths.store(self._folder):
      found = self._folder.iterdir() if self._folder.exists() else ()
      return {int(path.name) for path in found if path.name.isascii() and path.name.isdecimal()}

  def _put(self, manager: Any, folder: Path, step: int, best: int | None):
    try:
      manager.wait_until_finished()
      paths.put_folder(folder / str(step), self._folder / str(step), last=MARKER)
    finally:
      manager.close()
      paths.remove_tree(folder)
    steps = self.all_steps()
    for old in steps[: -self._newest]:
      if old != best:
        self.delete(old)
