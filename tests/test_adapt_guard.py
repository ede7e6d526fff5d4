"""Inner gradients of zero: padding, dead units and zero-initialized heads make neither NaN nor an explosion."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from metajax import gradient_steps

OPTIMIZERS = {  # of a learned rate
  "sgd": optax.sgd,
  "momentum": lambda rate: optax.sgd(rate, momentum=0.9),
  "nesterov": lambda rate: optax.sgd(rate, momentum=0.9, nesterov=True),
  "adam": lambda rate: optax.adam(rate, eps_root=1e-8),
  "adamw": lambda rate: optax.adamw(rate, eps_root=1e-8),
  "rmsprop": optax.rmsprop,
  "adagrad": optax.adagrad,
  "clipped": lambda rate: optax.chain(optax.clip_by_global_norm(0.5), optax.sgd(rate)),
  "masked": lambda rate: optax.chain(
    optax.masked(optax.scale_by_adam(eps_root=1e-8), {"in": True, "bias": False, "out": True}),
    optax.scale_by_learning_rate(rate),
  ),
  "multi_transform": lambda rate: optax.multi_transform(
    {"fast": optax.adam(rate, eps_root=1e-8), "slow": optax.sgd(rate)}, {"in": "fast", "bias": "slow", "out": "fast"}
  ),
  "schedule": lambda rate: optax.adam(lambda count: rate * 0.5**count, eps_root=1e-8),
}
RATE = 0.05
ROWS, INPUTS, HIDDEN = 6, 3, 5


def random_problem(random):
  draw = lambda *shape: random.normal(size=shape)
  params = {"in": draw(INPUTS, HIDDEN), "bias": draw(HIDDEN), "out": draw(HIDDEN)}
  return {"params": params, "weights": np.abs(draw(ROWS)), "inputs": draw(ROWS, INPUTS), "targets": draw(ROWS)}


def outputs_of(params, inputs):
  return jax.nn.relu(inputs @ params["in"] + params["bias"]) @ params["out"]


DEGENERATE = {
  "inputs of zero": lambda p: p["inputs"].fill(0),
  "one feature of zero": lambda p: p["inputs"][:, 1].fill(0),
  "padded rows": lambda p: p["weights"][2:].fill(0),
  "only padding": lambda p: p["weights"].fill(0),
  "a head of zero": lambda p: p["params"]["out"].fill(0),
  "a head and targets of zero": lambda p: (p["params"]["out"].fill(0), p["targets"].fill(0)),
  "dead units": lambda p: p["params"]["bias"].__setitem__(slice(0, 3), -100),
  "all units dead": lambda p: p["params"]["bias"].fill(-100),
  "all of zero": lambda p: [leaf.fill(0) for leaf in jax.tree.leaves(p)],
}


def spoilt(kind, seed):
  problem = random_problem(np.random.default_rng(seed))
  DEGENERATE[kind](problem)
  return problem


SEEDS = 3
KINDS = [kind for kind in DEGENERATE for _ in range(SEEDS)]
PROBLEMS = jax.tree.map(
  lambda *leaves: np.stack(leaves).astype(np.float32),
  *[spoilt(kind, seed) for kind in DEGENERATE for seed in range(SEEDS)],
)


def query_loss(make, steps, learned, problem, **how):
  def inner(params, data):
    return jnp.mean(learned["weights"] * jnp.square(outputs_of(params, data[0]) - data[1]))

  adapt = gradient_steps(make(learned["rate"]), steps, **how)
  adapted, _ = adapt(inner, learned["params"], (problem["inputs"], problem["targets"]))
  return jnp.mean(jnp.square(outputs_of(adapted, jnp.ones((2, INPUTS))) - 1.0)), adapted


def written_out(make, steps, problem, rate):
  """The adapted parameters of the optimizer itself, unguarded."""

  def inner(params):
    return jnp.mean(problem["weights"] * jnp.square(outputs_of(params, problem["inputs"]) - problem["targets"]))

  params, optimizer = problem["params"], make(rate)
  state = optimizer.init(params)
  for _ in range(steps):
    updates, state = optimizer.update(jax.grad(inner)(params), state, params)
    params = optax.apply_updates(params, updates)
  return params


@functools.partial(jax.jit, static_argnums=(0, 1, 3))
def sweep(make, steps, problems, learned_rate=True):
  """Of each problem: the norms of the meta-gradient by the initial parameters, the weights and the rate; the adapted
  parameters; and those without a guard."""

  def one(problem):
    rate = jnp.float32(RATE) + 0 * problem["inputs"][0, 0] if learned_rate else RATE
    learned = {"params": problem["params"], "weights": problem["weights"], "rate": rate}
    loss = lambda learned: query_loss(make, steps, learned if learned_rate else {**learned, "rate": RATE}, problem)
    gradient, adapted = jax.grad(loss, has_aux=True)(learned)
    return (
      {name: optax.tree.norm(part) for name, part in gradient.items()},
      adapted,
      written_out(make, steps, problem, RATE),
    )

  return jax.vmap(one)(problems)


def worst(norms):
  """The largest of each norm, for the message of a failure."""
  return {name: (float(norm.max()), KINDS[int(np.argmax(norm))]) for name, norm in norms.items()}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_zero_gradients_make_neither_nan_nor_an_explosion_and_change_no_value(optimizer):
  """Of the size that SGD's derivative is; 297 problems in all."""
  steps = {"momentum": 1, "nesterov": 3, "schedule": 3}.get(optimizer, 2)  # of most as many, which share sgd's program
  norms, adapted, unguarded = jax.device_get(sweep(OPTIMIZERS[optimizer], steps, PROBLEMS))
  reference, _, _ = jax.device_get(sweep(optax.sgd, steps, PROBLEMS))
  for name, norm in norms.items():
    assert np.isfinite(norm).all(), worst(norms)
    assert norm.max() <= 10 * reference[name].max(), worst(norms)
  chex.assert_trees_all_close(adapted, unguarded, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("optimizer", ["adam", "rmsprop", "clipped"])
def test_a_learned_rate_is_guarded_like_a_known_one(optimizer):
  (learned, _, _), (known, _, _) = (sweep(OPTIMIZERS[optimizer], 2, PROBLEMS, *how) for how in ((), (False,)))
  for name in ("params", "weights"):
    np.testing.assert_allclose(learned[name], known[name], rtol=1e-3, atol=1e-5)


def test_where_the_gradient_is_zero_sgd_still_has_the_derivative_of_its_step():
  """At a minimum of a quadratic of Hessian H it is I - a H."""
  hessian = np.array([[2.0, 0.5], [0.5, 1.0]], np.float32)
  center = np.array([0.25, -0.5], np.float32)
  quadratic = lambda params, data: 0.5 * (params - center) @ hessian @ (params - center)
  runs = [
    lambda start, make=make: gradient_steps(make(RATE), 3)(quadratic, start, ())[0]
    for make in (optax.sgd, lambda rate: optax.sgd(rate, momentum=0.0), OPTIMIZERS["clipped"])
  ]
  shrink = np.linalg.matrix_power(np.eye(2) - RATE * hessian, 3)
  for found in jax.jit(lambda start: [jax.jacrev(run)(start) for run in runs])(center):
    np.testing.assert_allclose(found, shrink, rtol=1e-5, atol=1e-6)


def test_an_element_of_adam_whose_gradient_is_zero_is_constant_in_it():
  """Its derivative is that of staying where it is; that of the others is Adam's."""
  adapt = gradient_steps(optax.adam(RATE, eps_root=1e-8), 1)
  run = lambda start: adapt(lambda p, _: 0.5 * p[0] ** 2, start, ())[0]
  at_zero = lambda start: adapt(lambda p, _: 0.5 * p @ p, start, ())[0]
  both = jax.jit(lambda one, other: (jax.jacrev(run)(one), jax.jacrev(at_zero)(other)))
  found, found_at_zero = both(np.ones(2, np.float32), np.array([1, 0], np.float32))
  np.testing.assert_allclose(found, [[1.0, 0.0], [0.0, 1.0]], atol=1e-3)
  np.testing.assert_allclose(found_at_zero, np.eye(2), atol=1e-3)


UNBOUNDED = {
  "adam": optax.adam(0.1),
  "adamw": optax.adamw(0.1),
  "nadam": optax.nadam(0.1),
  "lars": optax.lars(0.1),
  "lamb": optax.lamb(0.1, eps_root=1e-8),
  "in a chain": optax.chain(optax.clip_by_global_norm(1.0), optax.adam(0.1)),
}


@pytest.mark.parametrize("optimizer", UNBOUNDED.values(), ids=UNBOUNDED)
def test_an_optimizer_without_a_bounded_derivative_at_zero_is_refused_with_what_to_do(optimizer):
  adapt = gradient_steps(optimizer, 2)
  with pytest.raises(ValueError, match=r"gradient's size at params\['w'\]: give optax.adam or adamw an eps_root"):
    adapt(lambda params, data: jnp.sum(params["w"] ** 2), {"w": np.ones(2, np.float32)}, ())


@pytest.mark.parametrize("how", [{"gradient": "first_order"}, {"truncate": 0}])
def test_what_is_not_differentiated_needs_no_bounded_derivative(how):
  run = lambda p: gradient_steps(optax.adam(0.1), 2, **how)(lambda p, _: jnp.sum(p**2), p, ())[0].sum()
  np.testing.assert_array_equal(jax.jit(jax.grad(run))(np.zeros(2, np.float32)), 1)


def test_an_optimizer_whose_first_updates_have_no_derivative_is_refused():
  adapt = gradient_steps(optax.radam(0.1, eps_root=1e-4), 2)
  with pytest.raises(ValueError, match=r"first few updates have none at any gradient \(such as optax.radam"):
    adapt(lambda params, data: jnp.sum(params["w"] ** 2), {"w": np.ones(2, np.float32)}, ())


@pytest.mark.parametrize("mode", ["mixed", "reverse"])
def test_clipping_by_the_norm_of_the_parameters_is_differentiable_where_they_are_zero(mode):
  optimizer = optax.chain(optax.adaptive_grad_clip(0.01), optax.sgd(0.1))
  adapt = gradient_steps(optimizer, 2, gradient=mode)
  loss = lambda params, _: jnp.sum(jnp.square(params["w"] - 1))
  run = jax.jit(jax.value_and_grad(lambda params: loss(adapt(loss, params, ())[0], ())))
  starts = ({"w": np.full((2, 2), value, np.float32)} for value in (0.0, 1e-6))
  (at_zero, slope), (near, slope_near) = map(run, starts)
  assert np.isfinite(slope["w"]).all()
  np.testing.assert_allclose(at_zero, near, rtol=1e-4)
  np.testing.assert_allclose(slope["w"], slope_near["w"], rtol=1e-3)
  still = lambda params, _: jnp.sum(jnp.square(params["w"]))  # whose minimum is where it starts
  slope = jax.jit(jax.grad(lambda params: jnp.sum(adapt(still, params, ())[0]["w"])))(
    {"w": np.zeros((2, 2), np.float32)}
  )
  np.testing.assert_allclose(slope["w"], (1 - 0.1 * 2) ** 2, rtol=1e-5)
