"""A CPU as several devices, one a core.

One device computes one operation after the other and divides each among threads, so small operations leave cores idle.
One device a core computes a share of the batch on each core, without waiting for the others.
"""

import contextlib
import math
import os
from collections.abc import Generator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from metajax.mesh.devices import devices_for, make_mesh
from metajax.tree import is_key
from metajax.types import Batch

QUOTA = Path("/sys/fs/cgroup/cpu.max")  # of a container: microseconds of computing, and the period that they are for


def cores() -> int:
  """Returns the number of cores that this process may use, by its affinity and by the quota of its container."""
  allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
  try:
    quota, period = QUOTA.read_text().split()
    return max(1, min(allowed, math.ceil(int(quota) / int(period))))
  except (OSError, ValueError):  # no container, or one without a limit
    return allowed


def split_cpu(devices: int | None = None):
  """Divides the CPU into XLA devices, unless JAX was used before in this process or was told their number.

  `jax_num_cpu_devices`, the environment variable `JAX_NUM_CPU_DEVICES` and XLA's flag
  `--xla_force_host_platform_device_count` go before. Accelerators are as before.

  Args:
    devices: Number of devices; by default one a core.

  Example:
    >>> from metajax.mesh import split_cpu
    >>> split_cpu()  # before any use of JAX; `fit` and the commands do so themselves
  """
  told = "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", "")
  if not told and jax.config.jax_num_cpu_devices < 0:  # ty: ignore
    with contextlib.suppress(RuntimeError):  # JAX has been used
      jax.config.update("jax_num_cpu_devices", cores() if devices is None else devices)


def _is_divided() -> bool:
  return jax.config.jax_num_cpu_devices > 1 and jax.default_backend() == "cpu"  # ty: ignore


@contextlib.contextmanager
def over_cores(batch: Batch) -> Generator[bool]:
  """A context in which the batch is sharded over the devices of a divided CPU, as many as divide its rows.

  It changes nothing, and yields False, where a mesh is set, on an accelerator, on several hosts, without a divided CPU
  and for a batch whose arrays have no common number of rows.

  Args:
    batch: Pytree of arrays `[rows, ...]`.
  """
  rows = {np.shape(leaf)[:1] for leaf in jax.tree.leaves(batch)}
  alone = jax.sharding.get_abstract_mesh().empty and jax.process_count() == 1
  count = devices_for(*rows.pop()) if _is_divided() and alone and len(rows) == 1 and () not in rows else 1
  if count == 1:
    yield False
    return
  with jax.set_mesh(make_mesh(count)):
    yield True


def without_mesh() -> contextlib.AbstractContextManager:
  """A context without a mesh, within one that has a mesh."""
  return jax.set_mesh(jax.sharding.Mesh(np.empty((), object), ()))


def on_one_device(tree: Any) -> Any:
  """Copies arrays that several devices hold to the default device, where they go together with any others."""

  def copy(x):
    if is_key(x):
      return jax.random.wrap_key_data(copy(jax.random.key_data(x)), impl=jax.random.key_impl(x))
    return jnp.asarray(np.asarray(x))

  return jax.tree.map(copy, tree)
