"""Devices: the only package that names a device axis.

Everything else is written on global arrays, as if for one device. `jax.set_mesh(make_mesh())` is the only switch:
under it batches are sharded over their leading axis, parameters are replicated, `map_tasks` and `mean_over_tasks`
give each device its own tasks, and `over_rows` its own rows of a large-batch loss. `make_mesh(fsdp=True)` shards the
parameters too. Several hosts `join` first; every host then runs the same program on its own share of each batch.
"""

from metajax.mesh._task_sums import tasks_per_chunk
from metajax.mesh.all_pairs import (
  PairLayout,
  all_pairs,
  as_varying,
  axis_size,
  gather_columns,
  global_row_index,
  over_rows,
  psum_if_sharded,
  reduce_scatter_columns,
  reduce_scatter_logsumexp,
  symmetric_all_pairs,
)
from metajax.mesh.devices import (
  device_count,
  devices_for,
  gather_params,
  keep_sharded,
  make_mesh,
  replicate,
  shard_batch,
  shard_padded,
  shard_parameters,
  sharded_axis,
  to_host,
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
  "PairLayout",
  "advise",
  "all_pairs",
  "as_varying",
  "axis_size",
  "device_count",
  "devices_for",
  "first_host",
  "for_hosts",
  "from_first_host",
  "gather_columns",
  "gather_params",
  "global_row_index",
  "join",
  "keep_sharded",
  "make_mesh",
  "map_tasks",
  "mean_over_tasks",
  "meet_hosts",
  "over_rows",
  "own_share",
  "preempted",
  "psum_if_sharded",
  "reduce_scatter_columns",
  "reduce_scatter_logsumexp",
  "replicate",
  "shard_batch",
  "shard_padded",
  "shard_parameters",
  "sharded_axis",
  "share",
  "symmetric_all_pairs",
  "tasks_per_chunk",
  "to_host",
]
