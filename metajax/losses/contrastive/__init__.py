"""Contrastive losses over all pairs of a batch: global arrays in, a scalar out, on any number of devices.

Rows are compared by cosine similarity. Under a mesh (`jax.set_mesh`) negatives are global: all rows of the batch, on
all devices, with the values and gradients of a single device. The implementation depends on the size and the mesh, or
on the caller's choice; all implementations agree to rounding:

- "dense": all logits together, `O(n^2)` memory; the fastest for small batches.
- "tiled": one tile of logits at a time, `O(n d)` memory. A custom gradient rule visits each tile once forward and once
  backward.
- "sharded": tiled, with rows sharded over devices. One tower is all-gathered, and its gradient reduce-scattered.
- "ring": like "sharded", but the other devices' rows arrive one device at a time, and nothing is gathered.

The default on several devices is "sharded" ("ring" if the gathered rows would exceed 1 GiB); on one device it is
"dense" up to 1,024 rows and "tiled" beyond.

Inside a user's `shard_map` or `pmap` the loss covers only the device's local rows, unless `axis_name` is given: then it
covers all rows, and every device gets the same value. Derivatives there follow JAX's rules: with `shard_map` the
gradient of replicated params needs no correction; with `pmap`, and under `check_vma=False`, take the mean of the
devices' gradients.

NaN in a row of positive weight makes the loss NaN. Invalid values that raise an error when concrete (a weight below 0,
a temperature that is not above 0) make the loss NaN while tracing.
"""

from metajax.losses.contrastive.info_nce import LARGEST_LOG_SCALE, START_LOG_SCALE, info_nce, logit_scale
from metajax.losses.contrastive.nt_xent import nt_xent, supervised_contrastive
from metajax.losses.contrastive.siglip import siglip
from metajax.losses.contrastive.tiling import Implementation

__all__ = [
  "LARGEST_LOG_SCALE",
  "START_LOG_SCALE",
  "Implementation",
  "info_nce",
  "logit_scale",
  "nt_xent",
  "siglip",
  "supervised_contrastive",
]
