"""Joining the processes of a multi-host program."""

import contextlib
import os
import re
import signal
import socket
import sys
import threading
import time
from collections.abc import Generator

import jax

from metajax.mesh.distributed import broadcast_from_primary
from metajax.mesh.heartbeat import watch

_SEVERAL = {  # environment variables of launchers: the number of processes
  "SLURM": "SLURM_STEP_NUM_TASKS",
  "Open MPI": "OMPI_COMM_WORLD_SIZE",
}
PATIENCE = 5  # seconds of waiting for host 0 before it is said


def initialize_distributed(
  coordinator: str | None = None,
  hosts: int | None = None,
  host: int | None = None,
  *,
  dead_after: int = 60,
  wait: int = 300,
) -> bool:
  """Joins this process to a multi-host program, if a cluster is detected or the arguments describe one.

  Call it before any other use of JAX. Without arguments, TPU pods, SLURM and Open MPI are detected by their environment
  variables; any other process stays a single host. If a process dies, all others exit within seconds with status 3 and
  a message that names it; if a machine stops responding, JAX's coordination service ends the others after `dead_after`
  seconds.

  Args:
    coordinator: "address:port" of host 0, or "auto" to query the cluster (fails without one).
    hosts: Number of hosts.
    host: Index of this host, from 0.
    dead_after: Heartbeat timeout in seconds, after which a host counts as dead.
    wait: Timeout in seconds for the other hosts to connect.

  Returns:
    True if several hosts run the program.

  Raises:
    ValueError: if only some of `coordinator`, `hosts` and `host` are given, one is out of range, or no cluster is
      found for "auto".
    RuntimeError: if the other hosts do not connect, or JAX was used before.
  """
  found = _found_cluster()
  if coordinator is None and hosts is None and host is None and not found:
    return False
  asks = coordinator == "auto" or (coordinator is None and found)
  address, number, own = (None, None, None) if asks else _checked(coordinator, hosts, host)
  if number == 1:
    return False
  if address is not None and own:
    _find_coordinator(address, own, wait)
  try:
    with _ended_by_signals():
      jax.distributed.initialize(
        address,
        number,
        own,
        initialization_timeout=wait,
        heartbeat_timeout_seconds=dead_after,
        shutdown_timeout_seconds=wait,
      )
  except ValueError as error:
    if not asks:
      raise
    raise ValueError(
      "expected a cluster that names the coordinator (a TPU pod, SLURM, Open MPI), got none: give the coordinator as "
      "address:port of host 0, with hosts and host"
    ) from error
  if jax.process_count() > 1:
    watch(address.rsplit(":", 1)[0] if address else None, broadcast_from_primary)
  return jax.process_count() > 1


def _find_coordinator(address: str, host: int, wait: int):
  """Waits until host 0 listens at its address; JAX would end the process without saying which address it was.

  Raises:
    RuntimeError: if it does not listen within `wait` seconds.
  """
  name, _, port = address.rpartition(":")
  began, told = time.monotonic(), False
  while True:
    try:
      with socket.create_connection((name.strip("[]"), int(port)), timeout=5):
        return
    except OSError as error:
      waited = time.monotonic() - began
      if waited > wait:
        raise RuntimeError(f"expected host 0 at {address}, got no answer for {wait} s: {error}") from error
      if waited > PATIENCE and not told:
        print(f"host {host} waits up to {wait} s for host 0 at {address}: {error}", file=sys.stderr, flush=True)
        told = True
    time.sleep(0.2)


@contextlib.contextmanager
def _ended_by_signals() -> Generator[None]:
  """Lets SIGINT and SIGTERM end the process at once: Python runs no handlers while JAX waits for other hosts.

  Afterwards SIGTERM is JAX's, which tells all hosts of it.
  """
  if threading.current_thread() is not threading.main_thread():
    yield
    return
  before = {number: signal.signal(number, signal.SIG_DFL) for number in (signal.SIGINT, signal.SIGTERM)}
  try:
    yield
  except BaseException:
    signal.signal(signal.SIGTERM, before[signal.SIGTERM])
    raise
  finally:
    signal.signal(signal.SIGINT, before[signal.SIGINT])


def _checked(coordinator: str | None, hosts: int | None, host: int | None) -> tuple[str, int, int]:
  if coordinator is None or hosts is None or host is None:
    given = {"coordinator": coordinator, "hosts": hosts, "host": host}
    missing = [name for name, value in given.items() if value is None]
    raise ValueError(f"expected a coordinator, hosts and host, or none of them, got no {' and no '.join(missing)}")
  if not 0 <= host < hosts:
    raise ValueError(f"expected host from 0 to {hosts - 1}, got {host}")
  port = coordinator.rpartition(":")[2]
  if not (":" in coordinator and re.fullmatch("[0-9]{1,5}", port) and 0 < int(port) < 2**16):
    raise ValueError(f"expected a coordinator address:port, got {coordinator!r}")
  return coordinator, hosts, host


def _found_cluster() -> bool:
  several = any(
    os.environ.get(name, "1").isdigit() and int(os.environ.get(name, "1")) > 1 for name in _SEVERAL.values()
  )
  return several or "," in os.environ.get("TPU_WORKER_HOSTNAMES", "")
