"""Devices: the only package that names a device axis.

All other code is written on global arrays, as if for one device. `jax.set_mesh(make_mesh())` is the only switch: under
it batches are sharded over their leading axis, parameters are replicated, `map_tasks` and `mean_over_tasks` split tasks
over devices, and `over_rows` splits the rows of a large-batch loss. `make_mesh(fsdp=True)` shards the parameters too,
and `make_mesh(model=2)` the layers of transformers; `placement` holds the rule.
Multi-host programs call `initialize_distributed` first; every host then runs the same program on its share of each
batch.
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
from metajax.mesh.cores import cores, on_one_device, over_cores, split_cpu, without_mesh
from metajax.mesh.devices import (
  devices_for,
  make_mesh,
  mesh_over,
  replicate,
  shard_batch,
  shard_padded,
  to_host,
)
from metajax.mesh.distributed import (
  barrier,
  broadcast_from_primary,
  check_same_on_hosts,
  host_batches,
  is_primary_host,
  preemption_requested,
  process_shard,
  round_up_to_hosts,
)
from metajax.mesh.heartbeat import EXIT_PEER_LOST, set_exit_advice
from metajax.mesh.joining import initialize_distributed
from metajax.mesh.placement import (
  GATHERED,
  device_count,
  gather_layer,
  gather_params,
  keep_sharded,
  scatter_gradient,
  shard_parameters,
  sharded_axis,
  shards_layers,
)
from metajax.mesh.shapes import shapes_on
from metajax.mesh.tasks import map_tasks, mean_over_tasks

__all__ = [
  "EXIT_PEER_LOST",
  "GATHERED",
  "PairLayout",
  "all_pairs",
  "as_varying",
  "axis_size",
  "barrier",
  "broadcast_from_primary",
  "check_same_on_hosts",
  "cores",
  "device_count",
  "devices_for",
  "gather_columns",
  "gather_layer",
  "gather_params",
  "global_row_index",
  "host_batches",
  "initialize_distributed",
  "is_primary_host",
  "keep_sharded",
  "make_mesh",
  "map_tasks",
  "mean_over_tasks",
  "mesh_over",
  "on_one_device",
  "over_cores",
  "over_rows",
  "preemption_requested",
  "process_shard",
  "psum_if_sharded",
  "reduce_scatter_columns",
  "reduce_scatter_logsumexp",
  "replicate",
  "round_up_to_hosts",
  "scatter_gradient",
  "set_exit_advice",
  "shapes_on",
  "shard_batch",
  "shard_padded",
  "shard_parameters",
  "sharded_axis",
  "shards_layers",
  "split_cpu",
  "symmetric_all_pairs",
  "tasks_per_chunk",
  "to_host",
  "without_mesh",
]
