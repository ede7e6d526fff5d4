"""What every thread of a host is doing, where no step has been taken for long: hosts that wait for each other hang."""

import contextlib
import faulthandler
import io
import sys
from collections.abc import Generator, Iterator

from metajax.types import Batches


@contextlib.contextmanager
def reporting_hangs(batches: Batches, seconds: int) -> Generator[Batches]:
  """The batches; while they are drawn, the stacks of all threads go to standard error after `seconds` without one.

  The run goes on. Each host reports by itself, so the hosts' outputs together say which one the others wait for.

  Args:
    batches: Batches of a training.
    seconds: Seconds between two batches that count as a hang; 0 for no reports.
  """
  try:
    sys.stderr.fileno()
  except (AttributeError, OSError, io.UnsupportedOperation):
    seconds = 0  # nothing that a report could be written to
  if not seconds:
    yield batches
    return

  def watched(start: int = 0, shard: tuple[int, int] = (0, 1)) -> Iterator:
    for batch in batches(start, shard):
      faulthandler.dump_traceback_later(seconds, repeat=True)
      yield batch

  try:
    yield watched
  finally:
    faulthandler.cancel_dump_traceback_later()
