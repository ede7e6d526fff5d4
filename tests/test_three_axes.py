"""Meshes of three axes: rows over "data" and "fsdp", parameters over "fsdp", layers of transformers over "model"."""

from types import SimpleNamespace

import jax
import numpy as np
import optax
import pytest
from one_of_several_hosts import ROWS, pairs, random_images, trainings

import metajax.mesh.devices
from metajax import make_mesh
from metajax.learners import clip, gpt, simclr
from metajax.mesh import mesh_over, shard_batch, to_host
from metajax.mesh.placement import parameter_spec, sharded_axis
from metajax.networks import Size, decoder, projection_head, text_transformer, vision_transformer
from metajax.train import make_train_step, start

SIZE = Size(16, 2, 2)
LAYER = tuple(map(jax.tree_util.DictKey, ("params", "layer_0", "attention", "query", "kernel")))
HOW = {"loop": {}, "scan": {"scan": True, "remat": "full"}}


def of_transformers(name, how):
  """A learner of transformers, and a batch."""
  random = np.random.default_rng(0)
  image = vision_transformer(SIZE, 4, **HOW[how])
  if name == "clip":
    text = text_transformer(16, SIZE, 6, num_outputs=16, **HOW[how])
    return clip(image, text), pairs(random)
  if name == "simclr":
    return simclr(image, projection_head(16, 8), lambda key, image: image[::-1]), random_images(random, ROWS)
  return gpt(decoder(16, SIZE, 6, **HOW[how])), random.integers(0, 16, (ROWS, 7)).astype(np.int32)


def of_others(name):
  """A learner of other networks, and a batch."""
  learner, batches = trainings()[name]
  return learner, next(batches())


def step_on(mesh, learner, batch):
  """Params and metrics after one step."""
  optimizer = optax.sgd(0.1)
  with jax.set_mesh(mesh):
    state = start(learner, optimizer, batch)
    after, metrics = jax.jit(make_train_step(learner, optimizer))(state, shard_batch(batch))
    return to_host((after.params, metrics["loss"])), after.params


def same_step(learner, batch, mesh):
  """Asserts that a step on a mesh is that on one device; returns its params."""
  expected, _ = step_on(make_mesh(1), learner, batch)
  found, params = step_on(mesh, learner, batch)
  jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=0, atol=1e-5), found, expected)
  return params


def test_one_rule_says_where_an_axis_goes():
  with jax.set_mesh(make_mesh(8, fsdp=2, model=2)) as _:
    mesh = jax.sharding.get_abstract_mesh()
    assert dict(mesh.shape) == {"data": 2, "fsdp": 2, "model": 2}
    assert parameter_spec((16, 2, 8), LAYER) == jax.P("fsdp", "model")
    assert parameter_spec((16, 3, 8), LAYER) == jax.P("fsdp")  # three heads cannot be shared by two
    assert sharded_axis((16, 2, 8)) == 0 and parameter_spec((3,)) == jax.P()
  with jax.set_mesh(make_mesh(8, fsdp=True)):
    assert dict(jax.sharding.get_abstract_mesh().shape) == {"data": 1, "fsdp": 8}


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("name", ["clip", "simclr", "gpt"])
def test_a_step_of_transformers_is_that_of_one_device(name, how):
  learner, batch = of_transformers(name, how)
  params = same_step(learner, batch, make_mesh(8, fsdp=2, model=2))
  kernel = next(x for path, x in jax.tree.leaves_with_path(params) if "layer_1" in str(path) and "kernel" in str(path))
  assert kernel.addressable_shards[0].data.size == kernel.size // 4


@pytest.mark.parametrize("how", [{"fsdp": 2, "model": 2}, {"fsdp": 4}], ids=str)
@pytest.mark.parametrize("name", ["maml", "clip"])
def test_a_step_of_other_networks_is_that_of_one_device(name, how):
  same_step(*of_others(name), make_mesh(8, **how))


@pytest.mark.parametrize("name", ["gpt", "clip", "simclr", "maml"])
def test_a_step_on_two_slices_is_that_of_one_device(monkeypatch, name):
  # Devices of CPUs do not say which slice they are of. These are not in the order of the devices.
  slices = [
    SimpleNamespace(device=device, slice_index=device.id % 2, platform="cpu", device_kind="cpu")
    for device in jax.devices()
  ]
  grids = []

  def mesh_of(grid, *given, **how):
    grids.append(grid)
    return jax.sharding.Mesh(np.vectorize(lambda one: one.device, otypes=[object])(grid), *given, **how)

  monkeypatch.setattr(metajax.mesh.devices, "Mesh", mesh_of)
  learner, batch = of_others(name) if name == "maml" else of_transformers(name, "loop")
  same_step(learner, batch, mesh_over(slices, fsdp=2, model=2))
  assert [[one.slice_index for one in some.flat] for some in grids[0]] == [[0] * 4, [1] * 4]
  with pytest.raises(ValueError, match="fsdp to divide the 4 devices of a slice, got 8"):
    mesh_over(slices, fsdp=8)


def test_axes_that_do_not_divide_the_devices_are_refused():
  for how, said in (
    ({"fsdp": 3}, "fsdp to divide the 8 devices, got 3"),
    ({"model": 5}, "model to divide the 8 devices, got 5"),
    ({"fsdp": 8, "model": 2}, "fsdp to divide the 8 devices over 2, got 8"),
  ):
    with pytest.raises(ValueError, match=said):
      make_mesh(8, **how)
