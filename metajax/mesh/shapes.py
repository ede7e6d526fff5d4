"""Meshes of devices that need not be there, and shapes of arrays on them."""

from collections.abc import Sequence
from typing import Any, Literal

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from metajax.mesh.devices import DATA, FSDP, parameter_spec


def mesh_over(devices: Sequence[jax.Device], *, fsdp: bool = False) -> Mesh:
  """Returns the mesh of `make_mesh` over given devices, in their order, such as those of slices one after the other."""
  shape, names = ((len(devices), 1), (DATA, FSDP)) if fsdp else ((len(devices),), (DATA,))
  return Mesh(np.array(devices).reshape(shape), names, axis_types=(AxisType.Auto,) * len(names))


def shapes_on(mesh: Mesh, tree: Any, kind: Literal["batch", "parameters", "copies"]) -> Any:
  """Returns the shapes of global arrays with their shardings, within the context of the mesh.

  Args:
    mesh: The mesh.
    tree: Pytree of arrays or of their shapes.
    kind: Whether the arrays are sharded as a batch or as parameters, or copied to every device.
  """
  spec = {"batch": lambda shape: P(DATA), "parameters": parameter_spec, "copies": lambda shape: P()}[kind]
  return jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=NamedSharding(mesh, spec(x.shape))), tree
  )
