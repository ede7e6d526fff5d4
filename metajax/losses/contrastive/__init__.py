"""Contrastive losses over all pairs of a batch: global arrays in, a scalar out, on any number of devices.

Rows are compared by their cosine. Under a mesh (`jax.set_mesh`) the rows of the whole batch are each other's negatives,
wherever they are, and values and gradients are those of one device. How a loss is computed is chosen by its size and
the mesh, or by the caller; all ways agree to rounding:

- "dense": every logit at once, `O(n^2)` memory; the fastest for small batches.
- "tiled": one tile of logits at a time, `O(n d)` memory. Its gradient has a rule of its own, which visits each tile
  once forward and once backward.
- "sharded": tiled, each device its own rows. One tower is gathered, and its gradient brought home.
- "ring": the same, but the other devices' rows come by one device after the other and none are gathered.

By default a loss is "sharded" on several devices ("ring" where gathered rows would take more than a gibibyte), and on
one "dense" up to 1,024 rows, "tiled" beyond.

Inside someone's own `shard_map` or `pmap` a loss is that of the device's own rows, unless it is told the axis's name:
then it is that of all rows, known to all devices. There its derivative follows JAX's own rules: with `shard_map` the
gradient of replicated params is right as it is; with `pmap`, and under `check_vma=False`, take the mean of the devices'
gradients.

A row that weighs and holds NaN makes the loss NaN. What is refused where it is known (a weight below 0, a temperature
that is not above 0) makes it NaN while tracing.
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
