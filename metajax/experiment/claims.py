"""Whose a run's folder is: one process writes in it at a time, and a claim says which.

A claim is the file `.claim`. Of several hosts of one run the first one has it. It goes when the run ends, also by an
error; what a kill leaves behind is known for stale by its process, which is gone.
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
_held: list[Path] = []  # by this process; on SIGTERM nothing else is left that could know


class Claim(NamedTuple):
  """A process that writes in a folder.

  Attributes:
    host: its name.
    boot: which one of the host's, that gave the process its number; "" where the system does not say.
    numbers: who gave it: containers of one host may have numbers of their own.
    process: its number.
    began: when that process did, which tells it from a later one of the same number; "" where the system does not say.
    since: date and time, for people.
  """

  host: str
  boot: str
  numbers: str
  process: int
  began: str
  since: str


def take(folder: Path):
  """Claims a folder for this process, until `release`; says so if the process that had it is gone.

  Raises:
    ValueError: if another process has it, naming that one.
    OSError: if the claim cannot be written.
  """
  path = folder / CLAIM
  with paths.alone(folder), paths.naming(path):
    before, own = read(folder), of(os.getpid())
    check_free(folder)
    if before is not None and before[:-1] != own[:-1]:
      print(f"{_said(before)} had {str(folder)!r} and is gone: its claim is stale", file=sys.stderr)
    path.unlink(missing_ok=True)
    with path.open("x") as file:  # a new file: no link that was planted there is followed
      json.dump(own._asdict(), file)
    _held.append(path)


def check_free(folder: Path):
  """Refuses a folder that another process has, or may have.

  Raises:
    ValueError: naming it.
  """
  there = read(folder)
  if there is None or not _may_run(there) or there[:-1] == of(os.getpid())[:-1]:
    return
  advice = "" if _can_see(there) else f" (if that has ended, delete {str(folder / CLAIM)!r})"
  given = f"{str(folder)!r}: {_said(there)} has it{advice}"
  raise ValueError(f"expected a folder that no other process writes in, got {given}")


def release():
  """Gives up what this process has claimed."""
  while _held:
    path = _held.pop()
    there = read(path.parent)
    if there is not None and there[:-1] == of(os.getpid())[:-1]:
      with contextlib.suppress(OSError):
        path.unlink()


def of(process: int) -> Claim:
  """The claim of a process of this host, from now on."""
  return Claim(socket.gethostname(), *_given(), process, _began(process), time.strftime("%Y-%m-%d %H:%M:%S"))


def read(folder: Path) -> Claim | None:
  """The claim on a folder; None where there is none, or what is there says nothing."""
  path = folder / CLAIM
  try:
    if not stat.S_ISREG(os.lstat(path).st_mode):
      return None
    with path.open("rb") as file:
      found = json.loads(file.read(LONGEST))
    claim = Claim(**found)
  except (OSError, ValueError, TypeError, RecursionError):
    return None
  kinds = Claim.__annotations__
  return claim if all(type(value) is kinds[name] for name, value in claim._asdict().items()) else None


def _said(claim: Claim) -> str:
  return f"process {claim.process} on {claim.host}, since {claim.since},"


def _given() -> tuple[str, str]:
  """Since which boot and by whom processes are given their numbers here, where the system says so."""
  try:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip(), os.readlink("/proc/self/ns/pid")
  except OSError:
    return "", ""


def _can_see(claim: Claim) -> bool:
  """Whether its process, if it still runs, is among those that are seen here."""
  return (claim.host, claim.boot, claim.numbers) == (socket.gethostname(), *_given()) and os.name == "posix"


def _may_run(claim: Claim) -> bool:
  """Whether its process still runs, as far as can be seen here."""
  if claim.host == socket.gethostname() and claim.boot != _given()[0]:
    return False  # the host has started anew
  if not _can_see(claim):
    return True
  if claim.began:
    return _began(claim.process) == claim.began
  try:
    os.kill(claim.process, 0)  # asks, and does nothing
  except ProcessLookupError:
    return False
  except (PermissionError, OverflowError):
    return True
  return True


def _began(process: int) -> str:
  """When a process began, in ticks since the boot; "" where there is none, it has ended, or the system does not say."""
  try:
    state, *numbers = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
  except OSError:
    return ""
  return "" if state in "ZX" else numbers[18]  # one that has ended may wait for its parent to hear of it
