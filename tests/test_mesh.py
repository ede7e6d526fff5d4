"""Maps and means over tasks: exact in every derivative, flat in memory, one all-reduce whatever the inner loop does."""

import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from table_of_learners import episodes, image_episodes

from metajax import Network, gradient_steps
from metajax.compose import linear, with_head
from metajax.learners import maml
from metajax.mesh import (
  device_count,
  make_mesh,
  map_tasks,
  mean_over_tasks,
  replicate,
  shard_batch,
  tasks_per_chunk,
  to_host,
)
from metajax.networks import mlp
from metajax.networks.linen.convolution import convolve
from metajax.train import make_train_step, start

adapt = gradient_steps(optax.sgd(0.1), 2)


def task(params, rest, one):
  """A regression on one task, adapted by 2 steps."""

  def loss(params, examples):
    inputs, targets = examples
    return jnp.mean(rest["scale"] * jnp.square(jnp.tanh(inputs @ params["weight"] + params["bias"]) - targets))

  adapted, path = adapt(loss, params, one["support"])
  aux = {"first": path[0], "number": one["number"], "even": one["number"] % 2 == 0, "rest": rest["count"]}
  return loss(adapted, one["query"]), (aux, one["weight"])


def problem(tasks=32):
  random = np.random.default_rng(0)
  draw = lambda *shape: random.normal(size=shape)
  params, direction = ({"weight": draw(3), "bias": draw()} for _ in range(2))
  weight = np.where(np.arange(tasks) % 3 == 1, 0.0, random.uniform(0.5, 2, tasks))
  examples = lambda: (draw(tasks, 5, 3), draw(tasks, 5))
  number = random.permutation(tasks) - 20
  batch = {"support": examples(), "query": examples(), "weight": weight, "number": number}
  return params, direction, {"scale": np.array(0.7), "count": np.array(3)}, batch


def plain_mean(params, rest, tasks):
  """What `mean_over_tasks` computes, as one writes it."""
  loss, (aux, weight) = jax.vmap(task, (None, None, 0))(params, rest, tasks)
  share = weight / weight.sum()
  mean = lambda x: share @ x if jnp.issubdtype(x.dtype, jnp.floating) else x.max(0)
  return share @ loss, jax.tree.map(mean, aux)


def derivatives(mean):
  """The value of a mean over tasks and its derivatives, first and second, in forward and in reverse mode."""

  @jax.jit
  def all_of(params, direction, rest, tasks):
    both = jax.value_and_grad(lambda params: mean(params, rest, tasks), has_aux=True)
    (value, gradient), ((slope, _), forward) = jax.jvp(both, (params,), (direction,))
    reverse = jax.grad(lambda params: optax.tree.vdot(both(params)[1], direction))(params)
    undifferentiated = mean(params, rest, tasks)
    return undifferentiated, value, gradient, slope, forward, reverse

  return all_of


@pytest.fixture(scope="module")
def expected():
  with jax.enable_x64(True):
    return jax.device_get(derivatives(plain_mean)(*problem()))


@pytest.mark.parametrize(("devices", "chunk_size"), [(1, 1), (1, 4), (8, 2)])
def test_mean_over_tasks_and_its_two_derivatives_are_those_of_the_plain_mean(float64, expected, devices, chunk_size):
  params, direction, rest, tasks = problem()
  with jax.set_mesh(make_mesh(devices)):
    found = derivatives(mean_over_tasks(task, chunk_size))(params, direction, rest, shard_batch(tasks))
  chex.assert_trees_all_equal_shapes_and_dtypes(jax.device_get(found), expected)
  chex.assert_trees_all_close(jax.device_get(found), expected, rtol=1e-12, atol=1e-12)


def test_floats_beside_the_loss_are_averaged_by_weight_and_integers_and_booleans_take_the_maximum():
  one = lambda params, rest, x: (x, ({"float": 2 * x, "integer": -jnp.int32(x), "flag": x > 3}, x))
  loss, aux = jax.jit(mean_over_tasks(one))((), (), np.float32([1.0, 3.0]))
  assert (loss, aux["float"], aux["integer"], aux["flag"]) == (2.5, 5.0, -1, False)
  assert aux["integer"].dtype == jnp.int32 and aux["flag"].dtype == bool


def test_a_task_of_weight_zero_changes_nothing_and_no_weight_at_all_gives_zero():
  one = lambda params, rest, x: (params * x[0], ({"aux": x[0]}, x[1]))
  run = jax.jit(jax.value_and_grad(mean_over_tasks(one), has_aux=True))
  padded = np.float32([[1.0, 1.0], [4.0, 2.0], [1e6, 0.0], [-7.0, 0.0]])
  chex.assert_trees_all_equal(*jax.device_get((run(3.0, (), padded), run(3.0, (), padded[:2]))))
  chex.assert_trees_all_equal(jax.device_get(run(3.0, (), padded[2:])), ((0.0, {"aux": 0.0}), 0.0))


def test_weights_are_not_differentiated():
  one = lambda params, rest, x: (params * x, ({}, params))
  _, gradient = jax.jit(jax.value_and_grad(mean_over_tasks(one), has_aux=True))(2.0, (), np.float32([1.0, 3.0]))
  assert gradient == 2.0


def test_many_small_numbers_are_summed_in_32_bits():
  """In bfloat16 a sum of ones stops at 256."""
  one = lambda params, rest, x: (params * x, ({"x": x}, jnp.bfloat16(1)))
  ones_and_threes = np.repeat(np.array([1, 3], jnp.bfloat16), 512)
  run = jax.jit(jax.value_and_grad(mean_over_tasks(one), has_aux=True))
  (loss, aux), gradient = jax.device_get(run(np.array(1, jnp.bfloat16), (), ones_and_threes))
  assert loss == aux["x"] == gradient == 2 and gradient.dtype == jnp.bfloat16


@pytest.mark.parametrize("where", ["rest", "tasks"])
def test_differentiating_anything_but_the_parameters_is_refused(where):
  mean = mean_over_tasks(lambda params, rest, x: (params * rest * x, ({}, 1.0)))
  lost = {"rest": lambda p: mean(p, 2 * p, jnp.ones(4)), "tasks": lambda p: mean(p, 2.0, p * jnp.ones(4))}[where]
  for differentiate in (lambda f: jax.grad(f)(3.0), lambda f: jax.jvp(f, (3.0,), (1.0,))):
    with pytest.raises(TypeError, match=f"differentiates params only, but {where} depends on them"):
      differentiate(lambda p: lost(p)[0])


def test_a_loss_that_is_no_scalar_is_refused():
  with pytest.raises(ValueError, match=r"a scalar, got an array of shape \(3,\)"):
    mean_over_tasks(lambda params, rest, x: (jnp.ones(3), ({}, 1.0)))((), (), jnp.ones(4))


@pytest.mark.parametrize(("devices", "chunk_size"), [(1, 1), (1, 3), (8, 2)])
def test_map_tasks_is_vmap(devices, chunk_size):
  tasks = {"x": np.arange(48.0, dtype=np.float32).reshape(24, 2), "i": np.arange(24)}
  fn = lambda shared, one: (shared * one["x"].sum(), one["i"] + 1)
  expected = (2 * tasks["x"].sum(1), tasks["i"] + 1)
  with jax.set_mesh(make_mesh(devices)):
    found = jax.jit(map_tasks(fn, chunk_size))(2.0, shard_batch(tasks))
  chex.assert_trees_all_equal(jax.device_get(found), expected)


@pytest.mark.parametrize("over", [map_tasks(lambda s, x: x), mean_over_tasks(lambda p, r, x: (x, ({}, 1.0)))])
def test_tasks_that_the_devices_do_not_divide_are_refused(over):
  arguments = ((),) if "mapped" in over.__qualname__ else ((), ())
  with jax.set_mesh(make_mesh(8)), pytest.raises(ValueError, match="by the 8 devices of the mesh, got 12 rows"):
    over(*arguments, jnp.ones(12))


@pytest.mark.parametrize(
  ("tasks", "chunk_size", "group"), [(12, None, 1), (12, 1, 1), (12, 5, 4), (12, 12, 12), (6, 100, 6), (7, 3, 1)]
)
def test_a_chunk_of_tasks_is_the_largest_divisor_that_fits(tasks, chunk_size, group):
  assert tasks_per_chunk(tasks, chunk_size) == group


def test_a_chunk_of_no_task_is_refused():
  with pytest.raises(ValueError, match="at least 1, got 0"):
    tasks_per_chunk(4, 0)


def test_inside_someones_shard_map_every_device_sees_only_its_own_tasks():
  mean = mean_over_tasks(lambda params, rest, x: (params * x, ({}, 1.0)))

  def island(params, tasks):
    assert device_count() == 1
    loss, gradient = jax.value_and_grad(lambda p: mean(p, (), tasks)[0])(params)
    return loss[None], gradient[None]

  tasks = np.arange(16.0, dtype=np.float32)
  with jax.set_mesh(make_mesh(8)):
    assert device_count() == 8
    run = jax.jit(jax.shard_map(island, in_specs=(P(), P("data")), out_specs=P("data"), check_vma=False))
    loss, gradient = run(3.0, shard_batch(tasks))
  each = tasks.reshape(8, 2).mean(1)
  np.testing.assert_array_equal(gradient, each)
  np.testing.assert_array_equal(loss, 3 * each)


def test_without_a_mesh_there_is_one_device():
  assert device_count() == 1
  assert isinstance(shard_batch(np.ones(3)), jax.Array) and isinstance(replicate(np.ones(3)), jax.Array)


@pytest.mark.parametrize("devices", [0, -1, 9])
def test_a_mesh_of_devices_that_are_not_there_is_refused(devices):
  with pytest.raises(ValueError, match=f"expected 1 to 8 devices, the number available, got {devices}"):
    make_mesh(devices)


def test_a_mesh_has_the_first_devices_and_all_of_them_by_default():
  assert list(make_mesh(3).devices) == jax.devices()[:3] and list(make_mesh().devices) == jax.devices()


def test_shard_batch_gives_each_device_its_rows_and_replicate_gives_each_all():
  batch = {"x": np.arange(48).reshape(16, 3), "y": np.arange(16.0, dtype=np.float32)}
  with jax.set_mesh(make_mesh(8)):
    sharded, copied = shard_batch(batch), replicate(batch)
  chex.assert_trees_all_equal(jax.device_get(sharded), batch)
  for name, leaf in sharded.items():
    for i, shard in enumerate(leaf.addressable_shards):
      np.testing.assert_array_equal(shard.data, batch[name][2 * i : 2 * i + 2])
    for shard in copied[name].addressable_shards:
      np.testing.assert_array_equal(shard.data, batch[name])


@pytest.mark.parametrize(
  ("batch", "said"),
  [
    ({"x": np.ones((8, 2)), "y": np.ones(4)}, r"the same leading axis of at least 1, got \[\(4,\), \(8,\)\]"),
    ({"x": np.ones(8), "y": np.array(1.0)}, r"got \[\(\), \(8,\)\]"),
    ({"x": np.ones((0, 3))}, r"got \[\(0,\)\]"),
    ({}, r"got \[\]"),
    (np.ones(12), "divisible by the 8 devices of the mesh, got 12 rows"),
  ],
)
def test_batches_that_cannot_be_sharded_are_refused(batch, said):
  with jax.set_mesh(make_mesh(8)), pytest.raises(ValueError, match=said):
    shard_batch(batch)


def convolution():
  """One block of conv4, which compiles quicker: `[n, h, w, 1] -> [n, 8]`."""
  init = lambda key, images: (jax.random.normal(key, (3, 3, 1, 8)), {})
  apply = lambda params, state, images, train, key=None: (jax.nn.relu(convolve(images, params, 2)).mean((1, 2)), state)
  return Network(init, apply)


@pytest.mark.parametrize("chunk_size", [1, 4])
def test_memory_of_the_meta_gradient_does_not_grow_with_the_number_of_tasks(chunk_size):
  learner = maml(with_head(mlp((64,), 32), linear(3)), gradient_steps(optax.sgd(0.1), 2), chunk_size=chunk_size)

  def temporary(tasks):
    batch = episodes(0, tasks=tasks)
    params, state = jax.eval_shape(learner.init, jax.random.key(0), batch)
    gradient = jax.jit(jax.value_and_grad(learner.loss, has_aux=True))
    return gradient.lower(params, state, batch, jax.random.key(0)).compile().memory_analysis().temp_size_in_bytes

  assert temporary(64) <= 1.05 * temporary(8)  # two groups at least: one alone runs outside of a loop


COLLECTIVES = r"all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter|collective-broadcast"


def computations(program):
  """The text of each computation of a compiled program, by name, and each one's callees."""
  found = {}
  for part in re.split(r"\n(?=(?:ENTRY )?%[\w.-]+ \()", program):
    if head := re.match(r"(?:ENTRY )?%([\w.-]+) \(", part):
      found[head[1]] = part
  callees = {name: {c for c in re.findall(r"%([\w.-]+)", part) if c in found} - {name} for name, part in found.items()}
  return found, callees


def collectives(program):
  """The collective operations of a compiled program, those in its loops apart."""
  found, callees = computations(program)
  inside = {body for part in found.values() for body in re.findall(r"(?:body|condition)=%([\w.-]+)", part)}
  assert inside, "no loop: is the pattern still that of XLA's text?"
  reached, new = set(), inside
  while new:
    reached, new = reached | new, {callee for name in new for callee in callees[name]} - reached - new
  operations = {name: re.findall(rf" ({COLLECTIVES})(?:-start)?\(", part) for name, part in found.items()}
  split = lambda looped: [o for name, os in operations.items() if (name in reached) == looped for o in os]
  return split(False), split(True)


def test_the_train_step_of_maml_has_one_all_reduce_and_no_collective_in_a_loop():
  learner = maml(with_head(convolution(), linear(3)), gradient_steps(optax.sgd(0.1), 2))
  optimizer, batch = optax.sgd(1e-3), jax.tree.map(lambda x: np.concatenate([x, x]), image_episodes(0))
  state = jax.eval_shape(lambda: start(learner, optimizer, batch))
  with jax.set_mesh(make_mesh(8)):
    step = jax.jit(make_train_step(learner, optimizer), donate_argnums=0)
    everywhere = NamedSharding(jax.sharding.get_mesh(), P())
    state = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=everywhere), state)
    program = step.lower(state, shard_batch(batch)).compile().as_text()
  assert collectives(program) == (["all-reduce"], [])


def test_integers_beside_the_loss_cost_one_more_all_reduce():
  mean = mean_over_tasks(lambda params, rest, x: (jnp.sum(params * x), ((x, jnp.int32(x), jnp.int32(-x)), x)))
  with jax.set_mesh(make_mesh(8)):
    run = jax.jit(jax.value_and_grad(mean, has_aux=True))
    program = run.lower(jnp.ones(3), (), shard_batch(jnp.arange(32.0))).compile().as_text()
  assert collectives(program) == (["all-reduce"] * 2, [])


def test_a_collective_in_a_loop_is_seen():
  def island(x):
    return jax.lax.fori_loop(0, 3, lambda i, x: jax.lax.psum(jnp.sin(x), "data"), x)

  with jax.set_mesh(make_mesh(8)):
    run = jax.jit(jax.shard_map(island, in_specs=P("data"), out_specs=P("data"), check_vma=False))
    program = run.lower(jnp.ones(8)).compile().as_text()
  assert collectives(program) == ([], ["all-reduce"])


def test_a_padded_task_may_hold_anything():
  """Its loss and gradient are NaN, and weigh nothing."""
  roots = mean_over_tasks(lambda p, rest, x: (jnp.sqrt(p * x), ({"x": jnp.sqrt(x)}, x > 0)))
  tasks = np.float32([4.0, -1.0, 0.0, 4.0])
  (loss, aux), gradient = jax.jit(jax.value_and_grad(roots, has_aux=True))(1.0, (), tasks)
  assert (float(loss), float(aux["x"]), float(gradient)) == (2.0, 2.0, 1.0)


@pytest.mark.parametrize("weight", [-1.0, np.nan])
def test_a_task_of_no_weight_that_there_is_makes_the_mean_nan(weight):
  run = jax.jit(jax.value_and_grad(mean_over_tasks(lambda p, rest, x: (p * x, ({"x": x}, x))), has_aux=True))
  (loss, aux), gradient = run(1.0, (), np.float32([1.0, weight, 2.0]))
  assert np.isnan([loss, aux["x"], gradient]).all()


def test_loss_and_aux_keep_their_types():
  half = np.ones((), jnp.bfloat16)
  mean = mean_over_tasks(lambda p, rest, x: (p * half, ({"state": rest, "count": 3}, 1.0)))
  loss, aux = jax.eval_shape(mean, half, half, np.ones(4, np.float32))
  assert (loss.dtype, aux["state"].dtype, aux["count"].dtype) == (jnp.bfloat16, jnp.bfloat16, jnp.int32)


@pytest.mark.parametrize("impl", ["threefry2x32", "rbg"])
def test_a_typed_key_in_the_state_comes_back_as_one(impl):
  """In groups, one after the other and over devices: of all tasks alike it is that key."""
  key = jax.random.key(3, impl=impl)
  one = lambda p, state, x: (p * x, ({"key": jax.random.split(state["key"])[1], "x": x}, 1.0))
  run = jax.jit(jax.value_and_grad(mean_over_tasks(one, 2), has_aux=True))
  with jax.set_mesh(make_mesh(4)):
    over_devices = run(2.0, {"key": key}, shard_batch(np.arange(16.0)))
  expected = np.asarray(jax.jit(lambda: jax.random.key_data(jax.random.split(key)[1]))())
  for (loss, aux), gradient in (over_devices, run(2.0, {"key": key}, np.arange(16.0))):
    assert (loss, gradient, aux["x"]) == (15, 7.5, 7.5) and jax.random.key_impl(aux["key"]) == impl
    np.testing.assert_array_equal(jax.random.key_data(aux["key"]), expected)
    np.testing.assert_array_equal(to_host(aux)["key"], expected)


@pytest.mark.parametrize(("axis", "kind"), [("x", AxisType.Auto), ("data", AxisType.Explicit)])
def test_a_mesh_of_another_make_is_refused(axis, kind):
  mesh = jax.make_mesh((8,), (axis,), axis_types=(kind,))
  with (
    jax.set_mesh(mesh),
    pytest.raises(ValueError, match=f"Auto axis 'data', such as metajax.make_mesh.*{axis}.*{kind.name}"),
  ):
    shard_batch(np.ones(8))


def test_a_loss_over_tasks_that_closes_over_a_differentiated_value_is_refused():
  batch, network = episodes(0), with_head(mlp([4], 4), linear(3))
  params, state = maml(network, gradient_steps(optax.sgd(0.1), 1)).init(jax.random.key(0), batch)

  def of_rate(rate):
    return maml(network, gradient_steps(optax.sgd(rate), 1)).loss(params, state, batch, jax.random.key(0))[0]

  for gradient in (jax.grad(of_rate), jax.jit(jax.grad(of_rate))):
    with pytest.raises(TypeError, match=r"closes over a differentiated value of shape \[\], such as a learned rate"):
      gradient(0.1)
  chex.assert_trees_all_close(jax.jit(of_rate)(0.1), of_rate(0.1), rtol=1e-6)  # a traced one is no harm
