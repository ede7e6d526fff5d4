"""The trainings of a run on disk: each has a folder with its metrics and checkpoints."""

from pathlib import Path

from metajax.checkpoint.staged import is_complete
from metajax.paths import base, files_in, remote

METRICS = "metrics.jsonl"
FILES = ("checkpoints", METRICS, f"{METRICS}.part-*")  # a bucket has no append


def parts_of(folder: Path) -> list[Path]:
  """The folders of a run's trainings: the run's, or those of its experiments, of its seeds, or of the seeds of each."""
  files = (path for depth in ("", "*/", "*/*/") for name in FILES for path in folder.glob(f"{depth}{name}"))
  return sorted({path.parent for path in files})


def with_metrics(folder: Path) -> list[Path]:
  """The folders in a run that have metrics, sorted."""
  if not remote(folder):
    return [path.parent for path in sorted(folder.rglob(METRICS))]
  return list(dict.fromkeys(path.parent for path in files_in(folder) if base(path).name == METRICS))


def checkpointed_step(part: Path) -> int:
  """The largest step of a complete checkpoint of a training; 0 without one."""
  steps = (path.name for path in part.glob("checkpoints/*") if is_complete(path))
  return max((int(step) for step in steps if step.isascii() and step.isdecimal()), default=0)
