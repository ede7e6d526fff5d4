"""Inner loops on a part of the parameters, and one after the other, are those written out."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from metajax import gradient_steps
from metajax.adapt import newton, only, then

RATE = 0.1


pytestmark = pytest.mark.usefixtures("float64")


def draw(seed, *shape):
  return np.random.default_rng(seed).normal(size=shape)


PARAMS = {"encoder": {"linear": draw(0, 3, 4), "norm": draw(1, 4)}, "head": {"weight": draw(2, 4), "bias": draw(3)}}
SUPPORT, QUERY = (draw(4, 6, 3), draw(5, 6)), (draw(6, 5, 3), draw(7, 5))


def loss(params, data):
  inputs, targets = data
  features = jnp.tanh(inputs @ params["encoder"]["linear"]) * params["encoder"]["norm"]
  return jnp.mean(jnp.square(features @ params["head"]["weight"] + params["head"]["bias"] - targets))


def written_out(steps, chosen):
  """Steps of SGD on the leaves whose path is chosen, without an Adapt."""

  def adapt(loss, params, data):
    for _ in range(steps):
      slope = jax.grad(loss)(params, data)
      step = lambda path, p, g: p - RATE * g if chosen(jax.tree_util.keystr(path, simple=True, separator="/")) else p
      params = jax.tree_util.tree_map_with_path(step, params, slope)
    return params, ()

  return adapt


def adapted_and_meta_gradient(adapt):
  run = lambda params: loss(adapt(loss, params, SUPPORT)[0], QUERY)
  return jax.jit(lambda params: (adapt(loss, params, SUPPORT)[0], jax.grad(run)(params)))(PARAMS)


def close(found, expected):
  chex.assert_trees_all_close(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
  ("names", "chosen"),
  [
    ("head", lambda path: path.startswith("head/")),
    ("encoder/norm", lambda path: path == "encoder/norm"),
    (("head/bias", "encoder/norm"), lambda path: path in ("head/bias", "encoder/norm")),
  ],
  ids=["a part", "a nested part", "several parts"],
)
def test_only_some_parts_change_and_all_of_them_are_differentiated(names, chosen):
  steps = gradient_steps(optax.sgd(RATE), 3)
  adapted, gradient = found = adapted_and_meta_gradient(only(names, steps))
  close(found, adapted_and_meta_gradient(written_out(3, chosen)))
  for path, leaf in jax.tree_util.tree_leaves_with_path(adapted):
    before = PARAMS[path[0].key][path[1].key]
    assert np.array_equal(leaf, before) != chosen(jax.tree_util.keystr(path, simple=True, separator="/"))
  assert all(np.all(leaf != 0) for leaf in jax.tree.leaves(gradient))


def test_the_slow_part_is_differentiated_through_the_steps_of_the_fast_one():
  """Its derivative is not the one that takes the adapted head as given."""
  adapt = only("head", gradient_steps(optax.sgd(RATE), 3))
  adapted, gradient = adapted_and_meta_gradient(adapt)
  given = jax.grad(loss)(adapted, QUERY)
  assert not np.allclose(gradient["encoder"]["norm"], given["encoder"]["norm"], rtol=1e-2)
  _, first_order = adapted_and_meta_gradient(only("head", gradient_steps(optax.sgd(RATE), 3, gradient="first_order")))
  close(first_order, given)


def test_an_adapt_of_one_part_sees_that_part_and_one_of_several_sees_a_tuple():
  seen = []

  def adapt(loss, params, data):
    seen.append(jax.tree.structure(params))
    return params, loss(params, data)

  for names in ("head", ["head"], ["head/bias", "encoder"]):
    adapted, path = only(names, adapt)(loss, PARAMS, SUPPORT)
    close((adapted, path), (PARAMS, loss(PARAMS, SUPPORT)))
  head, encoder = PARAMS["head"], PARAMS["encoder"]
  assert seen == [jax.tree.structure(part) for part in (head, (head,), (head["bias"], encoder))]


def test_then_does_what_one_does_and_then_the_other():
  head, everything = only("head", gradient_steps(optax.sgd(RATE), 2)), gradient_steps(optax.sgd(RATE), 3)
  first, second = written_out(2, lambda path: path.startswith("head/")), written_out(3, lambda path: True)
  both = lambda loss, params, data: second(loss, first(loss, params, data)[0], data)
  close(adapted_and_meta_gradient(then(head, everything)), adapted_and_meta_gradient(both))


def test_the_path_of_then_is_that_of_both():
  head, everything = only("head", gradient_steps(optax.sgd(RATE), 2)), gradient_steps(optax.sgd(RATE), 3)
  middle, early = head(loss, PARAMS, SUPPORT)
  _, late = everything(loss, middle, SUPPORT)
  _, path = then(head, then(everything, newton(1, damping=1.0)))(loss, PARAMS, SUPPORT)
  assert path.shape == (6,)
  close(path[:5], np.concatenate([early, late]))


def test_the_path_of_trajectories_of_different_parts_is_the_pair_of_both():
  steps = gradient_steps(optax.sgd(RATE), 2, trajectory=True)
  _, (early, late) = then(only("head", steps), steps)(loss, PARAMS, SUPPORT)
  assert jax.tree.structure(early) == jax.tree.structure(PARAMS["head"])
  assert jax.tree.structure(late) == jax.tree.structure(PARAMS)
  _, joined = then(steps, steps)(loss, PARAMS, SUPPORT)
  assert joined["head"]["weight"].shape == (4, 4)


@pytest.mark.parametrize(
  ("names", "said"),
  [
    ("body", r"expected a part 'body' of the parameters, got encoder, head"),
    (("head", "encoder/conv"), r"expected a part 'encoder/conv' of the parameters, got linear, norm"),
    ("head/bias/more", r"expected a part 'head/bias/more' of the parameters, got no parts"),
  ],
)
def test_a_part_that_is_not_there_is_refused_with_those_that_are(names, said):
  with pytest.raises(ValueError, match=said):
    only(names, gradient_steps(optax.sgd(RATE), 1))(loss, PARAMS, SUPPORT)


@pytest.mark.parametrize("names", [("encoder", "encoder/norm"), ("head/bias", "head"), ("head", "head")])
def test_a_part_within_another_is_refused(names):
  with pytest.raises(ValueError, match=f"none lies within another, got {names[0]} and {names[1]}"):
    only(names, gradient_steps(optax.sgd(RATE), 1))(loss, PARAMS, SUPPORT)


def test_no_part_is_refused():
  with pytest.raises(ValueError, match="expected the name of a part to adapt, got none"):
    only([], gradient_steps(optax.sgd(RATE), 1))(loss, PARAMS, SUPPORT)
