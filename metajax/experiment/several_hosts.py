"""A command as one of several hosts: joining the others, printing on the first alone, leaving none to wait."""

import contextlib
import os
import re
import signal
import sys
import time
import traceback
from typing import Any, NamedTuple

import jax

from metajax.experiment import claims, flags
from metajax.experiment.terminal import printable
from metajax.mesh import EXIT_PEER_LOST, initialize_distributed, is_primary_host, process_shard

PATIENCE = 2  # seconds


class Hosts(NamedTuple):
  """One run on several hosts; the environment variables METAJAX_COORDINATOR, METAJAX_HOSTS, METAJAX_HOST do the
  same."""

  coordinator: str | None = None
  """Address and port of host 0, or "auto" to ask the cluster; most TPU pods, SLURM and Open MPI are found without."""
  hosts: int | None = None
  """Number of hosts."""
  host: int | None = None
  """Index of this host, from 0."""
  dead_after: int = 60
  """Seconds without a sign of life after which a host counts as lost."""


HOST_FLAGS = tuple(map(flags.dashed, Hosts._fields))


def joins_others() -> bool:
  """Joins other hosts, as the flags, the environment or a cluster say; the flags are taken away."""
  arguments = sys.argv[1:]
  given = {
    name: flags.take(arguments, f"--{name}")[-1:] or [os.environ.get(f"METAJAX_{name.upper().replace('-', '_')}")]
    for name in HOST_FLAGS
  }
  (coordinator,), *numbers = given.values()
  try:
    numbers = [number for (number,) in numbers]
    if bad := [number for number in numbers if number is not None and not re.fullmatch("[0-9]{1,9}", number)]:
      raise ValueError(f"expected whole numbers, got {bad[0][:60]!r}")
    if numbers[2] is not None and int(numbers[2]) < 1:
      raise ValueError(f"expected --dead-after to be at least 1, got {numbers[2]}")
    hosts, host, dead_after = (None if number is None else int(number) for number in numbers)
    several = initialize_distributed(
      coordinator, hosts, host, **({} if dead_after is None else {"dead_after": dead_after})
    )
  except (ValueError, RuntimeError) as error:
    fail(f"{error} (--coordinator, --hosts, --host)")
  sys.argv[1:] = arguments
  return several


@contextlib.contextmanager
def as_one_of_several():
  """This process as one of several: only the first host prints, and none leaves the others waiting."""
  try:
    with open(os.devnull, "w") as nowhere, contextlib.ExitStack() as stack:
      stack.enter_context(contextlib.redirect_stdout(sys.stdout if is_primary_host() else nowhere))
      stack.enter_context(quiet_where_nobody_reads())
      yield
  except SystemExit as stop:
    if stop.code:
      _leave(stop.code)
    raise
  except jax.errors.JaxRuntimeError as error:
    time.sleep(PATIENCE)  # who watches the others knows better which of them ended, and says so
    said = str(error).splitlines()[0]
    advice = "; ".join(["", *getattr(error, "advice", ())])
    print(f"error: host {process_shard()[0]} can no longer work with the others: {said}{advice}", file=sys.stderr)
    _leave(EXIT_PEER_LOST)
  except BaseException:
    traceback.print_exc()
    _leave(1)


def _leave(status: Any):
  """Ends this process at once. An exit as usual would wait for the others, who wait for this one."""
  claims.release()
  sys.stdout.flush()
  sys.stderr.flush()
  if is_primary_host():
    time.sleep(PATIENCE)  # others that have the same to say do so before they lose the one that they were to meet
  os._exit(status)


@contextlib.contextmanager
def quiet_where_nobody_reads():
  """Ends as a signal would where what is printed goes to a program that has ended, such as `head`."""
  try:
    try:
      yield
    finally:
      sys.stdout.flush()
  except BrokenPipeError:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left is not tried again at the exit
    sys.exit(128 + signal.SIGPIPE)


def fail(message: str):
  """Ends the command with one line and status 2."""
  print(f"error: {printable(message)}", file=sys.stderr)
  sys.exit(2)
