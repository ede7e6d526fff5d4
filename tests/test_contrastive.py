"""Contrastive losses: their papers' values, the same ones however they are computed, on any number of devices."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from finite_differences import check_slopes
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from table_of_contrastive_losses import (
  CLASSES,
  LABELS,
  LOSSES,
  ROWS,
  WAYS,
  WEIGHTS,
  WIDTH,
  arguments_of,
  random,
  slow_info_nce,
)

from benchmarks.devices import collectives
from metajax.compiled import flops
from metajax.losses import info_nce, logit_scale, nt_xent, siglip, supervised_contrastive
from metajax.losses.contrastive import LARGEST_LOG_SCALE, START_LOG_SCALE
from metajax.losses.contrastive.tiling import LARGEST_DENSE, LARGEST_GATHERED, default_implementation
from metajax.mesh import make_mesh, shard_batch
from metajax.train import keep_params_below

TILE = 16  # three tiles on one device, one and a half on two
SOME = random.normal(size=(ROWS, WIDTH))


@functools.cache
def program(name, count, **how):
  """The compiled loss and its gradient with respect to all of its arguments; one for each way to compute it."""

  def compute(arguments, weights, labels):
    loss = lambda *arguments: LOSSES[name].loss(*arguments, weights, labels, **how)
    return jax.value_and_grad(loss, range(count))(*arguments)

  return jax.jit(compute)


def value_and_gradient(name, arguments, weights=WEIGHTS, labels=LABELS, devices=None, block_size=TILE, **how):
  run, towers = program(name, len(arguments), block_size=block_size, **how), LOSSES[name].towers
  if devices is None:
    return run(arguments, weights, labels)
  with jax.set_mesh(make_mesh(devices)):
    first, weights, labels = shard_batch((arguments[:towers], weights, labels))
    return run((*first, *arguments[towers:]), weights, labels)


def close(got, expected, tolerance):
  for x, y in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
    np.testing.assert_allclose(x, y, rtol=tolerance, atol=tolerance * max(1, np.abs(y).max()))


# Each loss with each way, on a number of devices so that every two of the three meet; and without a mesh.
PAIRWISE = [(name, way, (1, 2, 4, 8)[(i + j) % 4]) for i, name in enumerate(LOSSES) for j, way in enumerate(WAYS)]
PAIRWISE += [(name, "tiled", None) for name in LOSSES]
ALL = [
  pytest.param(*row, marks=() if row in PAIRWISE else pytest.mark.slow)
  for row in (*itertools.product(LOSSES, WAYS, (1, 2, 4, 8)), *PAIRWISE[-len(LOSSES) :])
]


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("weights", [np.ones(ROWS), WEIGHTS], ids=["alike", "weighted"])
def test_a_loss_is_its_papers(name, weights, float64):
  arguments = arguments_of(LOSSES[name])
  expected = LOSSES[name].slow(*arguments, weights, LABELS)
  for way in ("dense", "tiled"):
    got = value_and_gradient(name, arguments, weights, implementation=way)[0]
    np.testing.assert_allclose(got, expected, rtol=1e-12)


def test_without_weights_rows_weigh_alike(float64):
  for name, case in LOSSES.items():
    arguments = arguments_of(case)
    alike = value_and_gradient(name, arguments, np.full(ROWS, 3.0), implementation="dense")[0]
    for way in ("dense", "tiled") if name == "info_nce" else ("dense",):  # weights are made before a way is chosen
      got = jax.jit(
        lambda *arguments, loss=case.loss, way=way: loss(*arguments, None, LABELS, implementation=way, block_size=TILE)
      )
      np.testing.assert_allclose(got(*arguments), alike, err_msg=name)


def test_nt_xent_is_that_of_optax():
  first, second = arguments_of(LOSSES["info_nce"], rows=8)[:2]
  interleaved = np.stack([first, second], 1).reshape(16, WIDTH)
  unit = lambda x: x / np.linalg.norm(x, axis=-1, keepdims=True)
  both = jax.jit(lambda x, of_length_1: (nt_xent(x, 0.2), optax.losses.ntxent(of_length_1, np.arange(16) // 2, 0.2)))
  np.testing.assert_allclose(*both(interleaved, unit(interleaved)), rtol=1e-6)


@pytest.mark.parametrize("name", LOSSES)
def test_a_gradient_is_the_slope_of_the_values(name, float64):
  """Of the towers, the scale or temperature, and the bias, each alone."""
  arguments = arguments_of(LOSSES[name])
  gradient = value_and_gradient(name, arguments, implementation="tiled")[1]
  for i, x in enumerate(arguments):
    step = 1e-4 * SOME[: len(x)] if np.ndim(x) else 1e-4

    def beside(sign, i=i, x=x, step=step):
      return float(
        value_and_gradient(name, (*arguments[:i], x + sign * step, *arguments[i + 1 :]), implementation="tiled")[0]
      )

    np.testing.assert_allclose(np.vdot(gradient[i], step), (beside(1) - beside(-1)) / 2, rtol=1e-6, atol=1e-10)


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_are_finite_differences(name, float64):
  """Of the towers, the scale or temperature, and the bias; forward and backward."""
  case = LOSSES[name]
  loss = lambda *arguments: case.loss(*arguments, WEIGHTS[:12], LABELS[:12], implementation="tiled", block_size=8)
  check_slopes(loss, arguments_of(case, rows=12), step=1e-4, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", LOSSES)
def test_the_gradient_of_the_gradient_is_right_inside_a_scan(name, float64):
  """A rule that calls what it differentiates has wrong second derivatives there, in silence."""
  case = LOSSES[name]

  def after_two_steps(embeddings, others, weights, labels, way):
    loss = lambda embeddings: case.loss(embeddings, *others, weights, labels, implementation=way, block_size=TILE)
    step = lambda embeddings, _: (embeddings - jax.grad(loss)(embeddings), None)
    return jnp.vdot(jax.lax.scan(step, embeddings, length=2)[0], SOME)

  gradient = jax.jit(jax.grad(after_two_steps), static_argnames="way")
  embeddings, *others = arguments_of(case)
  tiled, dense = (gradient(embeddings, others, WEIGHTS, LABELS, way=way) for way in ("tiled", "dense"))
  close(tiled, dense, 1e-12)


@pytest.mark.parametrize("name", LOSSES)
def test_curvature_along_a_direction_is_right(name, float64):
  """Forward over backward, of all arguments."""
  case = LOSSES[name]

  @functools.partial(jax.jit, static_argnums=0)
  def curvature(way, arguments, weights, labels):
    loss = lambda *arguments: case.loss(*arguments, weights, labels, implementation=way, block_size=TILE)
    return jax.jvp(jax.grad(loss, range(len(arguments))), arguments, arguments)[1]

  arguments = jax.tree.map(np.float64, arguments_of(case))
  close(*(curvature(way, arguments, WEIGHTS, LABELS) for way in ("tiled", "dense")), 1e-12)


@pytest.mark.parametrize(("name", "way", "devices"), ALL)
def test_however_it_is_computed_a_loss_and_its_gradient_are_the_same(name, way, devices, float64):
  arguments = arguments_of(LOSSES[name])
  close(
    value_and_gradient(name, arguments, devices=devices, implementation=way),
    value_and_gradient(name, arguments, implementation="dense"),
    1e-12,
  )


@pytest.mark.parametrize(("name", "way", "devices"), ALL)
def test_in_32_bits_they_are_the_same_to_rounding_at_large_scales(name, way, devices):
  for scale, tolerance in ((100.0, 1e-6), (1000.0, 1e-5)):
    of = (scale, -3.0) if name == "siglip" else (scale,) if name == "info_nce" else (1 / scale,)
    arguments = (*arguments_of(LOSSES[name])[: LOSSES[name].towers], *of)
    loss, gradient = value_and_gradient(name, arguments, devices=devices, implementation=way)
    assert loss.dtype == jnp.float32
    expected, slope = value_and_gradient(name, arguments, implementation="dense")
    np.testing.assert_allclose(loss, expected, rtol=1e-6)
    close(gradient, slope, tolerance)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("way", ["dense", "tiled"])
def test_a_padded_row_may_hold_anything_and_has_a_gradient_of_exactly_zero(name, way, float64):
  case = LOSSES[name]
  arguments = arguments_of(case)
  poison = lambda x: np.where(WEIGHTS[:, None] > 0, x, np.where(np.arange(WIDTH) % 2, np.nan, np.inf))
  poisoned = (*map(poison, arguments[: case.towers]), *arguments[case.towers :])
  loss, gradient = value_and_gradient(name, poisoned, implementation=way)
  assert loss == value_and_gradient(name, arguments, implementation=way)[0]
  for of_tower in gradient[: case.towers]:
    np.testing.assert_array_equal(of_tower[WEIGHTS == 0], 0)
    assert np.isfinite(of_tower).all()


@pytest.mark.parametrize("way", WAYS)
def test_without_a_row_that_weighs_the_loss_and_its_gradient_are_zero(way, float64):
  for name, case in LOSSES.items():
    loss, gradient = value_and_gradient(name, arguments_of(case), np.zeros(ROWS), implementation=way)
    assert loss == 0, name
    assert all((np.asarray(x) == 0).all() for x in gradient), name


@pytest.mark.parametrize("way", ["sharded", "ring"])
def test_1003_rows_on_8_devices_count_exactly_1003(way, float64):
  arguments = arguments_of(LOSSES["info_nce"], rows=1003)
  expected = value_and_gradient("info_nce", arguments, None, None, implementation="dense")
  padded = tuple(np.pad(x, [(0, 5), (0, 0)], constant_values=7) for x in arguments[:2])
  weights = np.pad(np.ones(1003), (0, 5))
  loss, gradient = value_and_gradient(
    "info_nce", (*padded, 7.0), weights, np.zeros(1008), devices=8, implementation=way, block_size=64
  )
  first, second, scale = map(np.asarray, gradient)
  close((loss, first[:1003], second[:1003], scale), (expected[0], *expected[1]), 1e-12)
  with (
    jax.set_mesh(make_mesh(8)),
    pytest.raises(ValueError, match="divisible by the 8 devices of the mesh, got 1003 rows"),
  ):
    jax.eval_shape(functools.partial(info_nce, implementation=way), *arguments)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("way", ["dense", "tiled"])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16], ids=["32 bits", "16 bits"])
def test_a_loss_and_its_gradient_are_finite_whatever_the_rows(dtype, way, name):
  case = LOSSES[name]
  towers = arguments_of(case)[: case.towers]
  kinds = {
    "zeros": [np.zeros_like(x) for x in towers],
    "one zero row": [np.where(np.arange(ROWS)[:, None] == 3, 0, x) for x in towers],
    "identical": [np.ones_like(x) for x in towers],
    "opposite": [np.ones_like(x) * (-1) ** np.arange(ROWS)[:, None] for x in towers],
    "huge": [x * 1e30 for x in towers],
    "tiny": [x * 1e-30 for x in towers],
  }
  for kind, towers in kinds.items():
    for scale in (100.0, 1000.0):
      of = (scale, -3.0) if name == "siglip" else (scale,) if name == "info_nce" else (1 / scale,)
      arguments = (*(x.astype(dtype) for x in towers), *of)
      loss, gradient = value_and_gradient(name, arguments, np.ones(ROWS), implementation=way)
      assert loss.dtype == jnp.float32
      assert gradient[0].dtype == dtype
      assert np.isfinite(loss), (kind, scale)
      assert all(np.isfinite(np.asarray(x, np.float32)).all() for x in gradient[: case.towers]), (kind, scale)


def test_sums_of_16_bit_rows_are_kept_in_32():
  narrow = [x.astype(jnp.bfloat16) for x in arguments_of(LOSSES["info_nce"], rows=256)[:2]]
  wide = [x.astype(np.float32) for x in narrow]

  @functools.partial(jax.jit, compiler_options={"xla_allow_excess_precision": False})
  def losses(narrow, wide):
    return [info_nce(*narrow, 20.0, implementation=way) for way in ("dense", "tiled")], info_nce(*wide, 20.0)

  for got in (found := losses(narrow, wide))[0]:
    np.testing.assert_allclose(got, found[1], rtol=1e-6)


def compiled(loss, *shapes, devices=None):
  """The program of value and gradient."""
  run = jax.jit(jax.value_and_grad(loss, range(len(shapes))))
  if devices is None:
    return run.lower(*shapes).compile()
  with jax.set_mesh(make_mesh(devices)):
    rows = NamedSharding(jax.sharding.get_mesh(), P("data"))
    shapes = [jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=rows) for x in shapes]
    return run.lower(*shapes).compile()


def floats(*shape):
  return jax.ShapeDtypeStruct(shape, jnp.float32)


MIB = 2**20
WIDE = 128  # values of a row
TOWERS = {
  "info_nce": (lambda a, b, **how: info_nce(a, b, 20.0, **how), 2),
  "siglip": (lambda a, b, **how: siglip(a, b, 10.0, -10.0, **how), 2),
  "nt_xent": (lambda z, **how: nt_xent(z, 0.1, **how), 1),
  "supervised_contrastive": (lambda z, **how: supervised_contrastive(z, jnp.arange(len(z)) % 10, 0.1, **how), 1),
}


@functools.cache
def of_size(name, rows, devices=None, **how):
  loss, towers = TOWERS[name]
  return compiled(lambda *x: loss(*x, **how), *[floats(rows, WIDE)] * towers, devices=devices)


def memory(*of, **how):
  """Bytes that value and gradient take beside arguments and results; on each device."""
  return of_size(*of, **how).memory_analysis().temp_size_in_bytes


@pytest.mark.parametrize("name", TOWERS)
def test_memory_of_tiled_losses_is_linear_in_the_rows(name):
  assert memory(name, 32768) <= 2.1 * memory(name, 16384)


def test_info_nce_of_32768_pairs_fits_in_200_mib_and_nt_xent_of_4096_images_in_110():
  assert memory("info_nce", 32768) <= 200 * MIB
  assert memory("nt_xent", 8192) <= 110 * MIB


def test_a_device_of_a_ring_of_8_holds_at_most_a_sixth_and_of_a_mesh_that_gathers_one_tower_and_its_gradient():
  alone = memory("info_nce", 32768)
  assert memory("info_nce", 32768, 8, implementation="ring") <= alone / 6
  tower = 32768 * WIDE * 4
  assert memory("info_nce", 32768, 8, implementation="sharded") <= 2 * tower + alone / 6


def traffic(name, rows, way):
  """How many values each collective of value and gradient on 8 devices gives a device, smallest first, by kind."""
  found = {}
  for kind, size in itertools.chain(*collectives(of_size(name, rows, 8, implementation=way).as_text())):
    found.setdefault(kind, []).append(size // 4)
  return {kind: sorted(values) for kind, values in found.items()}


B, SHARE = 32768, 4096  # rows, and those of one of 8 devices
PASSED_ON = "collective-permute"  # 8 times, once to each device of the ring


@pytest.mark.parametrize(
  ("name", "way", "expected"),
  [
    # One tower comes, with the sums over columns; its gradient goes home: 2 B d + O(B).
    (
      "info_nce",
      "sharded",
      {"all-gather": [B, B, B * WIDE], "all-reduce": [2, B, B], "reduce-scatter": [SHARE * WIDE]},
    ),
    # The tower once for the sums and once for the gradient, which travels with it: 3 B d + O(B).
    ("info_nce", "ring", {PASSED_ON: [SHARE] * 6 + [SHARE * WIDE] * 3, "all-reduce": [2]}),
    # Every row's gradient is complete where it is: B d + O(B).
    ("nt_xent", "sharded", {"all-gather": [B] * 5 + [B * WIDE], "all-reduce": [2]}),
    ("nt_xent", "ring", {PASSED_ON: [SHARE] * 9 + [SHARE * WIDE] * 2, "all-reduce": [2]}),
    ("siglip", "sharded", {"all-gather": [B * WIDE], "all-reduce": [2], "reduce-scatter": [SHARE * WIDE]}),
    ("siglip", "ring", {PASSED_ON: [SHARE] + [SHARE * WIDE] * 2, "all-reduce": [2]}),
  ],
)
def test_devices_exchange_one_tower_and_its_gradient_and_a_ring_gathers_nothing(name, way, expected):
  assert traffic(name, B, way) == expected


@pytest.mark.parametrize(
  ("name", "most"),
  [
    ("info_nce", 8.5),  # forward 2, and backward the logits again 2 and two gradients 4
    ("siglip", 6.5),  # one visit gives all
    ("nt_xent", 4.6),  # each two tiles meet once for both: half of 8, and the tiles that meet themselves
    ("supervised_contrastive", 4.6),
  ],
)
def test_arithmetic_of_value_and_gradient_in_products_of_rows(name, most):
  loss, towers = TOWERS[name]
  rows = 16384
  gradient = jax.value_and_grad(lambda *x: loss(*x, implementation="tiled"), range(towers))
  assert flops(gradient, *[floats(rows, WIDE)] * towers) <= most * rows**2 * WIDE


def test_the_way_is_chosen_by_size_and_devices():
  of = lambda rows, axis_name=None: default_implementation(jax.ShapeDtypeStruct((rows, 256), jnp.float32), axis_name)
  assert (of(LARGEST_DENSE), of(LARGEST_DENSE + 1)) == ("dense", "tiled")
  most = LARGEST_GATHERED // (256 * 4)
  with jax.set_mesh(make_mesh(8)):
    assert (of(8), of(most), of(most + 1)) == ("sharded", "sharded", "ring")


def half(first, second, params, **how):
  return info_nce(first @ params, second @ params, 7.0, block_size=8, **how)


of_all_rows = jax.jit(jax.value_and_grad(half, 2))


def mapped(way, check_vma):
  """A training step of one's own `shard_map`; the mesh is not one of metajax's."""

  def step(params, first, second):
    found = jax.value_and_grad(lambda params: half(first, second, params, implementation=way, axis_name="rows"))(params)
    return found if check_vma else jax.lax.pmean(found, "rows")

  def run(params, first, second):
    axes = jax.make_mesh((4,), ("rows",), axis_types=(AxisType.Auto,), devices=jax.devices()[:4])
    specs = {"in_specs": (P(), P("rows"), P("rows")), "out_specs": P()}
    return jax.jit(jax.shard_map(step, mesh=axes, check_vma=check_vma, **specs))(params, first, second)

  return run


def pmapped(way):
  def step(params, first, second):
    found = jax.value_and_grad(lambda params: half(first, second, params, implementation=way, axis_name="rows"))(params)
    return jax.lax.pmean(found, "rows")

  split = lambda x: x.reshape(4, -1, WIDTH)
  run = jax.pmap(step, axis_name="rows", in_axes=(None, 0, 0), devices=jax.devices()[:4])
  return lambda params, first, second: jax.tree.map(lambda x: x[0], run(params, split(first), split(second)))


def jitted(way):
  def run(params, first, second):
    with jax.set_mesh(make_mesh(4)):
      first, second = shard_batch((first, second))
      return jax.jit(jax.value_and_grad(lambda params: half(first, second, params, implementation=way)))(params)

  return run


@pytest.mark.parametrize("way", ["sharded", "ring"])
@pytest.mark.parametrize(
  "make",
  [jitted, pmapped, functools.partial(mapped, check_vma=True), functools.partial(mapped, check_vma=False)],
  ids=["jit", "pmap", "shard_map", "unchecked shard_map"],
)
def test_it_is_the_loss_of_all_rows_within_jit_shard_map_and_pmap(make, way, float64):
  first, second = arguments_of(LOSSES["info_nce"], rows=16)[:2]
  params = SOME[:WIDTH]
  close(make(way)(params, first, second), of_all_rows(first, second, params), 1e-12)


def test_without_the_axis_name_it_is_the_loss_of_a_devices_own_rows(float64):
  first, second = arguments_of(LOSSES["info_nce"], rows=16)[:2]
  with jax.set_mesh(make_mesh(2)):
    own = lambda first, second: info_nce(first, second, 7.0, implementation="tiled")[None]
    found = jax.jit(jax.shard_map(own, in_specs=P("data"), out_specs=P("data")))(first, second)
  expected = [slow_info_nce(first[rows], second[rows], 7.0, np.ones(8), None) for rows in (slice(8), slice(8, 16))]
  np.testing.assert_allclose(found, expected, rtol=1e-12)


TOWER = np.ones((4, 3), np.float32)


@pytest.mark.parametrize(
  ("call", "said"),
  [
    (lambda: info_nce(TOWER, TOWER[:2], 1.0), r"two towers of one shape, got \[4, 3\] and \[2, 3\]"),
    (lambda: siglip(TOWER, TOWER[:2], 1.0, 0.0), r"two towers of one shape, got \[4, 3\] and \[2, 3\]"),
    (lambda: info_nce(TOWER, TOWER[0], 1.0), r"second to be floating \[n, d\], got float32 \[3\]"),
    (lambda: nt_xent(TOWER.astype(int), 1.0), r"embeddings to be floating \[n, d\], got int\d+ \[4, 3\]"),
    (lambda: nt_xent(TOWER[:3], 1.0), "two rows of each image, got 3 rows"),
    (lambda: info_nce(TOWER, TOWER, 1.0, weights=np.ones(3)), r"weights \[4\], one per row, got \[3\]"),
    (lambda: supervised_contrastive(TOWER, np.ones(3, int), 1.0), r"integers \[n\], got \[3\] for embeddings \[4, 3\]"),
    (lambda: supervised_contrastive(TOWER, np.ones(4), 1.0), r"labels \[n\] to be integers, got float"),
    (lambda: info_nce(TOWER, TOWER, 1.0, implementation="fast"), "implementation to be one of 'dense', .*, got 'fast'"),
    (lambda: info_nce(TOWER, TOWER, 1.0, block_size=0), "block_size to be a whole number of at least 1, got 0"),
    (
      jax.jit(lambda: info_nce(TOWER, TOWER, 1.0, axis_name="rows")),
      "an axis of the enclosing shard_map or pmap, got 'rows'",
    ),
    (
      lambda: info_nce(TOWER, TOWER, 1.0, implementation="dense", axis_name="rows"),
      "'sharded' or 'ring' with an axis_name",
    ),
  ],
)
def test_bad_input_is_refused_with_what_was_given(call, said):
  with pytest.raises(ValueError, match=said):
    call()


def test_one_hot_labels_are_those_of_integers_and_a_row_without_a_label_is_padding():
  embeddings = arguments_of(LOSSES["nt_xent"])[0]
  one_hot = np.eye(CLASSES)[LABELS] * (WEIGHTS > 0)[:, None]

  @jax.jit
  def losses(embeddings, one_hot):
    of_integers = supervised_contrastive(embeddings, LABELS, 0.2, weights=WEIGHTS > 0)
    return supervised_contrastive(embeddings, one_hot, 0.2), of_integers

  np.testing.assert_allclose(*losses(embeddings, one_hot))


def test_a_learned_scale_stays_below_100_and_is_never_stuck_beyond():
  """A loss that wants a larger scale holds it at the cap; one that wants a smaller one takes it down from beyond."""
  scale_and_slope = jax.jit(jax.value_and_grad(logit_scale))
  np.testing.assert_allclose(scale_and_slope(START_LOG_SCALE)[0], 1 / 0.07, rtol=1e-6)
  np.testing.assert_allclose(scale_and_slope(9.0), (100, 100), rtol=1e-6)
  optimizer = optax.chain(optax.adam(0.5), keep_params_below(LARGEST_LOG_SCALE, "log_scale"))

  @jax.jit
  def after_eight_steps(value, sign):
    params = {"tower": jnp.ones(2), "log_scale": value}
    loss = lambda params: sign * logit_scale(params["log_scale"]) + params["tower"].sum()

    def step(carry, _):
      params, state = carry
      updates, state = optimizer.update(jax.grad(loss)(params), state, params)
      return (optax.apply_updates(params, updates), state), None

    return jax.lax.scan(step, (params, optimizer.init(params)), length=8)[0][0]

  up = after_eight_steps(np.float32(START_LOG_SCALE), -1)
  np.testing.assert_allclose(up["log_scale"], np.log(100), rtol=1e-6)
  assert up["tower"].max() < -1  # and nothing else is held
  assert after_eight_steps(np.float32(9.0), 1)["log_scale"] < np.log(100) - 1


def test_keep_below_names_the_parameters_there_are_and_needs_their_values():
  params = {"image": {"weight": np.ones(2)}, "scale": np.ones(())}
  link = keep_params_below(1.0, "log_scale")
  with pytest.raises(ValueError, match=r"a parameter named 'log_scale' .* got image/weight, scale"):
    link.init(params)
  with pytest.raises(ValueError, match="needs the parameters"):
    keep_params_below(1.0, "scale").update(params, optax.EmptyState())
