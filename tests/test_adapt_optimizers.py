"""Which optimizers an inner loop serves, and how it is differentiated, is said before anything is compiled."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from metajax import gradient_steps
from metajax.adapt import implicit, newton
from metajax.learners import maml
from metajax.networks import mlp
from metajax.predictors import adapted_head
from metajax.types import Episode, Examples

START, MINIMUM = np.array([1.0, -2.0], np.float32), np.array([3.0, 0.5], np.float32)
TOLD = {"lbfgs": optax.lbfgs(), "polyak_sgd": optax.polyak_sgd()}


def quadratic(params, minimum):
  return jnp.sum(np.array([1.0, 3.0], np.float32) * jnp.square(params - minimum))


def by_optax(optimizer, steps):
  """The optimizer's own steps, with what it asks for."""
  params, state = START, optimizer.init(START)
  for _ in range(steps):
    value, slope = jax.value_and_grad(quadratic)(params, MINIMUM)
    told = {"value": value, "grad": slope, "value_fn": lambda p: quadratic(p, MINIMUM)}
    updates, state = optimizer.update(slope, state, params, **told)
    params = optax.apply_updates(params, updates)
  return params


def with_slopes(adapt, start, minimum):
  run = lambda start, minimum: adapt(quadratic, start, minimum)[0]
  found, pull = jax.vjp(run, start, minimum)
  return found, pull(jnp.ones(2))


@pytest.mark.parametrize("name", [pytest.param("lbfgs", marks=pytest.mark.slow), "polyak_sgd"])
def test_an_optimizer_that_asks_for_the_loss_is_told_it_and_is_a_constant_to_the_meta_gradient(name):
  adapt = gradient_steps(TOLD[name], 3, gradient="first_order")
  both = jax.jit(lambda *given: (*with_slopes(adapt, *given), by_optax(TOLD[name], 3)))
  found, slopes, expected = both(START, MINIMUM)
  np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
  np.testing.assert_array_equal(slopes[0], [1, 1])
  np.testing.assert_array_equal(slopes[1], [0, 0])


@pytest.mark.parametrize("how", [{}, {"gradient": "reverse"}, {"truncate": 1}])
def test_one_that_asks_for_the_loss_is_refused_where_it_would_be_differentiated(how):
  for optimizer in TOLD.values():
    with pytest.raises(ValueError, match=r"takes the value of the loss .*use gradient='first_order'"):
      gradient_steps(optimizer, 2, **how)(quadratic, START, MINIMUM)


@pytest.mark.slow
def test_a_head_is_trained_by_lbfgs():
  random = np.random.default_rng(0)
  support = Examples(random.normal(size=(6, 4)).astype(np.float32), np.eye(2, dtype=np.float32)[[0, 1, 0, 1, 0, 1]])
  adapt = gradient_steps(optax.chain(optax.add_decayed_weights(1e-2), optax.lbfgs()), 10, gradient="first_order")
  predict = jax.jit(adapted_head(lambda params, state, x: x, adapt))
  np.testing.assert_array_equal(predict((), {}, support, support.inputs).argmax(-1), support.labels.argmax(-1))


def test_an_optimizer_that_asks_for_something_else_is_refused():
  update = lambda updates, state, params=None, *, hessian: (updates, state)
  odd = optax.GradientTransformationExtraArgs(lambda params: (), update)
  with pytest.raises(TypeError, match=r"requires at most value, grad and value_fn, got .*'hessian'"):
    gradient_steps(odd, 2)(quadratic, START, MINIMUM)


@pytest.mark.parametrize("odd", [0.1, optax.sgd, None])
def test_what_is_no_optimizer_is_refused_at_once(odd):
  for make in (lambda: gradient_steps(odd, 2), lambda: implicit(odd, 2, 1.0)):
    with pytest.raises(TypeError, match=re.escape("expected an optax optimizer, such as optax.sgd(0.1), got ")):
      make()


FORWARD = {
  "jvp": lambda f: jax.jvp(f, (START,), (START,)),
  "jacfwd": lambda f: jax.jacfwd(f)(START),
  "jit of jacfwd": lambda f: jax.jit(jax.jacfwd(f))(START),
  "jvp of jit": lambda f: jax.jvp(jax.jit(f), (START,), (START,)),
  "vmap of jvp": lambda f: jax.vmap(lambda x: jax.jvp(f, (x,), (x,)))(START[None]),
  "jacfwd of jacfwd": lambda f: jax.jacfwd(jax.jacfwd(f))(START),
}


FAST = ("jvp", "jit of jacfwd")


@pytest.mark.parametrize(
  "derivative", [*FAST, *(pytest.param(d, marks=pytest.mark.slow) for d in FORWARD if d not in FAST)]
)
def test_forward_mode_through_mixed_says_to_use_reverse(derivative):
  for adapt in (gradient_steps(optax.sgd(0.1), 2), gradient_steps(optax.sgd(0.1), 2, remat="sqrt"), newton(1)):
    with pytest.raises(TypeError, match=r'use gradient="reverse"'):
      FORWARD[derivative](lambda start, adapt=adapt: adapt(quadratic, start, MINIMUM)[0].sum())


def test_forward_mode_through_reverse_and_hessians_through_mixed_are_exact():
  quartic = lambda params, minimum: jnp.sum((params - minimum) ** 4)
  run = lambda how: (
    lambda start: quartic(gradient_steps(optax.sgd(0.01), 2, gradient=how)(quartic, start, MINIMUM)[0], MINIMUM)
  )
  of = lambda first, how: lambda start: (first(run(how))(start), jax.hessian(run(how))(start))
  forward, mixed = jax.jit(lambda start: [of(jax.jacfwd, "reverse")(start), of(jax.grad, "mixed")(start)])(START)
  for found, expected in zip(mixed, forward, strict=True):
    np.testing.assert_allclose(found, expected, rtol=1e-4)


@pytest.mark.slow
def test_a_learner_is_differentiated_in_forward_mode_all_the_same():
  """Its loss takes the gradient of each task inside."""
  learner = maml(mlp((3,), 1), gradient_steps(optax.sgd(0.1), 1), loss=lambda x, y: jnp.mean(jnp.square(x - y)))
  task = Examples(np.ones((2, 4, 1), np.float32), np.ones((2, 4, 1), np.float32))
  batch = Episode(task, task)
  params, state = learner.init(jax.random.key(0), batch)
  loss = lambda p: learner.loss(p, state, batch, jax.random.key(0))[0]
  ones = jax.tree.map(jnp.ones_like, params)
  forward, backward = jax.jit(lambda p: (jax.jvp(loss, (p,), (ones,))[1], jax.grad(loss)(p)))(params)
  np.testing.assert_allclose(forward, optax.tree.sum(backward), rtol=1e-5)
