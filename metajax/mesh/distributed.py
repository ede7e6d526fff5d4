"""Multi-host programs: processes that run one program together, each with its local devices and data.

Every function here also works on a single host, at no cost.
"""

import json
import os
import re
from collections.abc import Callable, Iterable
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from metajax.mesh.heartbeat import watch

_SEVERAL = {  # environment variables of launchers: the number of processes
  "SLURM": "SLURM_STEP_NUM_TASKS",
  "Open MPI": "OMPI_COMM_WORLD_SIZE",
}
_asked = 0  # number of calls of `preemption_requested`, equal on all hosts


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
  try:
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


def process_shard() -> tuple[int, int]:
  """Returns `(host, hosts)`: the `shard` argument of `batches(start, shard)` for this host."""
  return jax.process_index(), jax.process_count()


def host_batches(batches: Callable) -> Iterable:
  """Returns this host's share of `batches(start, shard)` from batch 0; a single host calls `batches()`."""
  return batches() if jax.process_count() == 1 else batches(0, process_shard())


def round_up_to_hosts(rows: int) -> int:
  """Rounds an evaluation batch size up to a multiple of the number of hosts."""
  return -(-rows // jax.process_count()) * jax.process_count()


def is_primary_host() -> bool:
  """Returns True on host 0, which does all printing and writing."""
  return jax.process_index() == 0


def broadcast_from_primary(make: Callable[[], Any]) -> Any:
  """Calls `make()` on host 0 and returns its result, a JSON value, on all hosts.

  Raises:
    ValueError, OSError: if `make` raises one on host 0; it is raised on all hosts.
  """
  if jax.process_count() == 1:
    return make()
  said = {}
  if is_primary_host():
    try:
      said["value"] = make()
    except (ValueError, OSError) as error:
      said |= {"error": str(error), "of": "OSError" if isinstance(error, OSError) else "ValueError"}
  content = np.frombuffer(json.dumps(said).encode(), np.uint8)
  size = int(multihost_utils.broadcast_one_to_all(np.int32(len(content))))
  content = content if is_primary_host() else np.zeros(size, np.uint8)
  said = json.loads(bytes(np.asarray(multihost_utils.broadcast_one_to_all(content))))
  if "error" in said:
    raise {"OSError": OSError, "ValueError": ValueError}[said["of"]](said["error"])
  return said["value"]


def barrier(name: str):
  """Waits until every host has called it; files that host 0 wrote before are then visible to all."""
  if jax.process_count() > 1:
    multihost_utils.sync_global_devices(name)


def preemption_requested() -> bool:
  """Returns True if one of the hosts received SIGTERM; all hosts get the same answer at the same call.

  All hosts must call it equally often, e.g. once per step. It is False on a single host, where the program handles
  signals.
  """
  global _asked
  if jax.process_count() == 1:
    return False
  _asked += 1
  return multihost_utils.reached_preemption_sync_point(_asked)


def _found_cluster() -> bool:
  several = any(
    os.environ.get(name, "1").isdigit() and int(os.environ.get(name, "1")) > 1 for name in _SEVERAL.values()
  )
  return several or "," in os.environ.get("TPU_WORKER_HOSTNAMES", "")
