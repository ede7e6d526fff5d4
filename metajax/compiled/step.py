"""A training step compiled for devices that are not there."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from metajax.mesh import shapes_on
from metajax.pixels import images_to_float
from metajax.train import TrainState, make_train_step
from metajax.types import Batch, Learner


def shapes(learner: Learner, optimizer: optax.GradientTransformation, example: Batch) -> TrainState:
  """Returns the shapes of a run's TrainState, without computing anything.

  Args:
    learner, optimizer: As for `fit`.
    example: A batch, of any number of rows.
  """

  def begin(key, example):
    params, state = learner.init(key, images_to_float(example))
    return TrainState(params, state, optimizer.init(params), key, jnp.zeros((), jnp.int32))

  # The example is an argument: as a constant, the batch of a pod would be copied.
  return jax.eval_shape(begin, jax.random.key(0), example)


def with_rows(batch: Batch, rows: int) -> Batch:
  """Returns the shapes of a batch of another number of rows."""
  return jax.tree.map(lambda x: jax.ShapeDtypeStruct((rows, *x.shape[1:]), x.dtype), batch)


def placed(before: TrainState, batch: Batch, mesh: Mesh) -> tuple[TrainState, Batch]:
  """Returns the shapes of a TrainState and of a global batch as they lie on the devices of a mesh."""
  with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
    params, optimizer_state = shapes_on(mesh, (before.params, before.optimizer_state), "parameters")
    rest = shapes_on(mesh, before._replace(params=None, optimizer_state=None), "copies")
    return rest._replace(params=params, optimizer_state=optimizer_state), shapes_on(mesh, batch, "batch")


def share(tree: Any) -> int:
  """Returns the bytes of arrays that lie on each device, given their shapes as `placed` returns them."""
  shards = jax.tree.map(lambda x: math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize, tree)
  return sum(jax.tree.leaves(shards))


def compile_step(
  learner: Learner,
  optimizer: optax.GradientTransformation,
  before: TrainState,
  batch: Batch,
  mesh: Mesh,
  accumulate: int = 1,
) -> jax.stages.Compiled:
  """Compiles the training step of a run for the devices of a mesh, which need not be there.

  Args:
    learner, optimizer: As for `fit`.
    before, batch: Shapes as `placed` returns them.
    mesh: The mesh.
    accumulate: As for `make_train_step`.

  Raises:
    jax.errors.JaxRuntimeError: if the program needs more memory than a device has.
  """
  with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
    step = make_train_step(learner, optimizer, accumulate)
    return jax.jit(step, donate_argnums=0).lower(before, batch).compile()
