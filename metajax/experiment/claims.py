"""Claims: one process at a time writes in a run's folder.

A claim is the file `.claim`, held by the primary host of a run. It is removed when the run ends, also by an error. A
killed run leaves a stale claim, recognized by its process, which no longer runs. In a bucket, which has no locks, a
claim is put and read again after a while, so that of two that come at once the one that another has replaced gives way.
"""

import contextlib
import json
import os
import socket
import stat
import sys
import time
from pathlib import Path
from typing import NamedTuple

from metajax import paths

CLAIM = ".claim"
LONGEST = 4096  # bytes of a claim
SETTLED = 2.0  # seconds, in a bucket longer than from the look for another's claim to the put of one's own
_held: list[Path] = []  # by this process; global, as a SIGTERM handler has no other access


class Claim(NamedTuple):
  """A process that writes in a folder.

  Attributes:
    host: Name of the host.
    boot: Boot ID of the host; "" if unknown.
    numbers: PID namespace, as containers of one host may number their processes separately.
    process: PID of the process.
    began: Start time of the process, which distinguishes it from a later one with the same PID; "" if unknown.
    since: Date and time of the claim, for people.
  """

  host: str
  boot: str
  numbers: str
  process: int
  began: str
  since: str


def take(folder: Path):
  """Claims a folder for this process, until `release`; reports a stale claim that it replaces.

  Raises:
    ValueError: if another process holds a claim, naming that process.
    OSError: if the claim cannot be written.
  """
  path = folder / CLAIM
  with paths.alone(folder), paths.naming(path):
    before, own = read(folder), of(os.getpid())
    check_free(folder)
    if before is not None and before[:-1] != own[:-1]:
      print(f"{_said(before)} had {str(folder)!r} and is gone: its claim is stale", file=sys.stderr)
    if paths.remote(folder):
      paths.write_whole(path, json.dumps(own._asdict()).encode())
      time.sleep(SETTLED)
      check_free(folder)
    else:
      path.unlink(missing_ok=True)
      with path.open("x") as file:  # a new file, so that no planted link is followed
        json.dump(own._asdict(), file)
    _held.append(path)


def check_free(folder: Path):
  """Refuses a folder that another process holds, or may hold.

  Raises:
    ValueError: naming the process.
  """
  there = holder(folder)
  if there is None or there[:-1] == of(os.getpid())[:-1]:
    return
  advice = "" if _can_see(there) else f" (if that has ended, delete {str(folder / CLAIM)!r})"
  given = f"{str(folder)!r}: {_said(there)} has it{advice}"
  raise ValueError(f"expected a folder that no other process writes in, got {given}")


def holder(folder: Path) -> Claim | None:
  """Returns the claim on a folder if its process runs, or may run where it cannot be seen from here; else None."""
  there = read(folder)
  return there if there is not None and _may_run(there) else None


def release():
  """Releases all claims of this process."""
  while _held:
    path = _held.pop()
    with contextlib.suppress(OSError):
      there = read(path.parent)
      if there is not None and there[:-1] == of(os.getpid())[:-1]:
        with paths.store(path):
          path.unlink()


def of(process: int) -> Claim:
  """The claim of a process of this host, as of now."""
  return Claim(socket.gethostname(), *_given(), process, _began(process), time.strftime("%Y-%m-%d %H:%M:%S"))


def read(folder: Path) -> Claim | None:
  """Returns the claim on a folder, or None if it has no valid one.

  Raises:
    OSError: if a bucket does not answer.
  """
  path = folder / CLAIM
  try:
    claim = Claim(**json.loads(_content(path)[:LONGEST]))
  except (ValueError, TypeError, RecursionError):
    return None
  kinds = Claim.__annotations__
  return claim if all(type(value) is kinds[name] for name, value in claim._asdict().items()) else None


def _content(path: Path) -> bytes:
  """The beginning of a file, b"" if there is none."""
  if paths.remote(path):
    with contextlib.suppress(FileNotFoundError):
      return paths.read_bytes(path)
    return b""
  with contextlib.suppress(OSError):
    if stat.S_ISREG(os.lstat(path).st_mode):
      with path.open("rb") as file:
        return file.read(LONGEST)
  return b""


def _said(claim: Claim) -> str:
  return f"process {claim.process} on {claim.host}, since {claim.since},"


def _given() -> tuple[str, str]:
  """The boot ID and the PID namespace of this process, or empty strings if unknown."""
  try:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip(), os.readlink("/proc/self/ns/pid")
  except OSError:
    return "", ""


def _can_see(claim: Claim) -> bool:
  """Returns True if the claim's process would be visible from here."""
  return (claim.host, claim.boot, claim.numbers) == (socket.gethostname(), *_given()) and os.name == "posix"


def _may_run(claim: Claim) -> bool:
  """Returns False if the claim's process has certainly ended."""
  if claim.host == socket.gethostname() and claim.boot != _given()[0]:
    return False  # the host has rebooted
  if not _can_see(claim):
    return True
  if claim.began:
    return _began(claim.process) == claim.began
  try:
    os.kill(claim.process, 0)  # only checks that the process exists
  except ProcessLookupError:
    return False
  except (PermissionError, OverflowError):
    return True
  return True


def _began(process: int) -> str:
  """Start time of a process, in ticks since the boot; "" if it has ended or is unknown."""
  try:
    state, *numbers = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
  except OSError:
    return ""
  return "" if state in "ZX" else numbers[18]  # Z: ended, but not yet reaped by its parent
