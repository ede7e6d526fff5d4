"""Shapes of arrays on devices that need not be there."""

from typing import Any, Literal

import jax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from metajax.mesh.placement import parameter_spec, row_axes


def shapes_on(mesh: Mesh, tree: Any, kind: Literal["batch", "parameters", "copies"]) -> Any:
  """Returns the shapes of global arrays with their shardings, within the context of the mesh.

  Args:
    mesh: The mesh.
    tree: Pytree of arrays or of their shapes.
    kind: Whether the arrays are sharded as a batch or as parameters, or copied to every device.
  """

  def on(path, x):
    spec = {"batch": P(row_axes()), "parameters": parameter_spec(x.shape, path), "copies": P()}[kind]
    return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=NamedSharding(mesh, spec))

  return jax.tree_util.tree_map_with_path(on, tree)
