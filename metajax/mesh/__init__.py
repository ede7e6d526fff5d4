"""Devices: the only package that names a device axis.

Everything else is written on global arrays, as if for one device. `jax.set_mesh(make_mesh())` is the only switch:
under it batches are sharded over their leading axis, parameters are replicated, `map_tasks` and `mean_over_tasks`
give each device its own tasks, and `over_rows` its own rows of a large-batch loss.
"""

from metajax.mesh.devices import device_count, make_mesh, replicate, shard_batch, while_tracing
from metajax.mesh.rows import (
  Rows,
  axis_size,
  bring_home,
  bring_home_exponentials,
  columns_of,
  meet,
  meet_each_other,
  over_rows,
  position,
  total,
)
from metajax.mesh.tasks import map_tasks, mean_over_tasks, tasks_at_once

__all__ = [
  "Rows",
  "axis_size",
  "bring_home",
  "bring_home_exponentials",
  "columns_of",
  "device_count",
  "make_mesh",
  "map_tasks",
  "mean_over_tasks",
  "meet",
  "meet_each_other",
  "over_rows",
  "position",
  "replicate",
  "shard_batch",
  "tasks_at_once",
  "total",
  "while_tracing",
]
