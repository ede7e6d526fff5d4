"""Devices: the only package that names a device axis.

Everything else is written on global arrays, as if for one device. `jax.set_mesh(make_mesh())` is the only switch:
under it batches are sharded over their leading axis, parameters are replicated, `map_tasks` and `mean_over_tasks`
give each device its own tasks, and `over_rows` its own rows of a large-batch loss. `make_mesh(fsdp=True)` shards the
parameters too. Several hosts `join` first; every host then runs the same program on its own share of each batch.
"""

from metajax.mesh._task_sums import tasks_per_chunk
from metajax.mesh.all_pairs import (
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
  varying,
)
from metajax.mesh.devices import (
  device_count,
  devices_for,
  keep_sharded,
  make_mesh,
  replicate,
  shard_batch,
  shard_padded,
  shard_parameters,
  sharded_axis,
  to_host,
  whole_parameters,
)
from metajax.mesh.distributed import (
  first_host,
  for_hosts,
  from_first_host,
  join,
  meet_hosts,
  own_share,
  preempted,
  share,
)
from metajax.mesh.heartbeat import LOST, advise
from metajax.mesh.tasks import map_tasks, mean_over_tasks

__all__ = [
  "LOST",
  "Rows",
  "advise",
  "axis_size",
  "bring_home",
  "bring_home_exponentials",
  "columns_of",
  "device_count",
  "devices_for",
  "first_host",
  "for_hosts",
  "from_first_host",
  "join",
  "keep_sharded",
  "make_mesh",
  "map_tasks",
  "mean_over_tasks",
  "meet",
  "meet_each_other",
  "meet_hosts",
  "over_rows",
  "own_share",
  "position",
  "preempted",
  "replicate",
  "shard_batch",
  "shard_padded",
  "shard_parameters",
  "sharded_axis",
  "share",
  "tasks_per_chunk",
  "to_host",
  "total",
  "varying",
  "whole_parameters",
]
