"""Metrics as TensorBoard events, in a file that is rebuilt when a run resumes."""

import importlib
import io
import os
import socket
import tempfile
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from metajax import paths
from metajax.report.files import begin
from metajax.report.rows import RESERVED, WriteRow, on_primary
from metajax.types import MetricLogger

_OURS = ".metajax"  # suffix of the event files that this log may replace


@contextmanager
def tensorboard_log(folder: Path | str, after: int = 0) -> Generator[MetricLogger]:
  """A context manager that yields a logger, `log(step, metrics)`, which appends TensorBoard events in a folder.

  Opening keeps the events of steps up to `after` and drops the later ones, which a resumed run writes again. Event
  files of other programs are untouched. Only the primary host writes.

  Args:
    folder: folder of the run, created if missing.
    after: step at which the run resumes; 0 for a new run.

  Raises:
    OSError: if a file cannot be written; the message names it.
    ValueError: if the folder is a URL of a scheme that is not opened here, or a metric is called "step" or "time".
  """
  folder = paths.place("the folder of metrics", folder)
  with on_primary(lambda: events_file(folder, [event for event in _events(folder) if event.step <= after])) as log:
    yield log


@contextmanager
def events_file(folder: Path, kept: Sequence[Any]) -> Generator[WriteRow]:
  """Replaces this package's event files in a folder by one of the kept events; yields `write(row)`, which appends."""
  messages = _messages("event")
  old = _files(folder)
  began = kept[0].wall_time if kept else time.time()
  # At START, a running TensorBoard discards what it has read from the old files.
  head = [
    messages.Event(wall_time=began, file_version="brain.Event:2"),
    messages.Event(wall_time=began, step=0, session_log=messages.SessionLog(status=messages.SessionLog.START)),
  ]
  path = folder / f"events.out.tfevents.{time.time():.0f}.{socket.gethostname()}.{os.getpid()}{_OURS}"
  begin(path, b"".join(map(_framed, [*head, *kept])))
  for other in old:
    if paths.base(other) != path:
      other.unlink(missing_ok=True)
  try:
    with paths.appending(path) as append:
      yield lambda row: append(_framed(event_of(row)))
  finally:
    paths.merge(path)


def event_of(row: dict[str, Any]) -> Any:
  """The event of a row of metrics."""
  summary = _messages("summary").Summary
  numbers = {name: v for name, v in row.items() if name not in RESERVED and isinstance(v, int | float)}
  values = [summary.Value(tag=name, simple_value=value) for name, value in numbers.items()]
  return _messages("event").Event(wall_time=row.get("time", 0.0), step=row["step"], summary=summary(value=values))


def _events(folder: Path) -> Iterator[Any]:
  """Yields the events of metrics in this package's event files, up to the first one that cannot be read."""
  from tensorboard.compat.tensorflow_stub import errors
  from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import PyRecordReader_New

  for path in dict.fromkeys(map(paths.base, _files(folder))):
    with _on_disk(path) as copy:
      reader = PyRecordReader_New(str(copy))
      while True:
        try:
          reader.GetNext()
        except (errors.OutOfRangeError, errors.DataLossError):  # the end, or a record of a killed process
          break
        event = _messages("event").Event.FromString(reader.record())
        if event.HasField("summary"):
          yield event


def _files(folder: Path) -> list[Path]:
  """This package's event files in a folder, sorted; in a bucket their parts, each of which TensorBoard reads."""
  return sorted([*folder.glob(f"*.tfevents.*{_OURS}"), *folder.glob(f"*.tfevents.*{_OURS}.part-*")])


@contextmanager
def _on_disk(path: Path) -> Generator[Path]:
  """The file, or a copy of it on a disk, as the reader reads no others."""
  if not paths.remote(path):
    yield path
    return
  with tempfile.TemporaryDirectory() as folder:
    copy = Path(folder) / "events"
    paths.write_whole(copy, paths.read(path))
    yield copy


def _messages(name: str) -> Any:
  """A module of TensorBoard's protocol buffer messages, whose classes are created at import."""
  return importlib.import_module(f"tensorboard.compat.proto.{name}_pb2")


def _framed(event: Any) -> bytes:
  """An event in the record format of event files."""
  # TensorBoard's EventFileWriter would import TensorFlow; its RecordWriter does not.
  from tensorboard.summary.writer.record_writer import RecordWriter

  file = io.BytesIO()
  RecordWriter(file).write(event.SerializeToString())
  return file.getvalue()
