"""Devices: the only package that names a device axis.

Everything else is written on global arrays, as if for one device. `jax.set_mesh(make_mesh())` is the only switch:
under it batches are sharded over their leading axis, parameters are replicated, and `map_tasks` and
`mean_over_tasks` give each device its own tasks.
"""

from metajax.mesh.devices import device_count, make_mesh, replicate, shard_batch, while_tracing
from metajax.mesh.tasks import map_tasks, mean_over_tasks, tasks_at_once

__all__ = [
  "device_count",
  "make_mesh",
  "map_tasks",
  "mean_over_tasks",
  "replicate",
  "shard_batch",
  "tasks_at_once",
  "while_tracing",
]
