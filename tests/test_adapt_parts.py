"""Inner loops on a part of the parameters, and one after the other, are those written out."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from metajax import gradient_steps
from metajax.adapt import chain, newton, only

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


def adapted_and_meta_gradients(*adapts):
  """Of each adapt, in one program."""

  def both(adapt, params):
    def run(params):
      adapted, _ = adapt(loss, params, SUPPORT)
      return loss(adapted, QUERY), adapted

    return jax.grad(run, has_aux=True)(params)[::-1]

  return jax.jit(lambda params: [both(adapt, params) for adapt in adapts])(PARAMS)


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
  found, expected = adapted_and_meta_gradients(only(names, steps), written_out(3, chosen))
  close(found, expected)
  adapted, gradient = found
  for path, leaf in jax.tree_util.tree_leaves_with_path(adapted):
    before = PARAMS[path[0].key][path[1].key]
    assert np.array_equal(leaf, before) != chosen(jax.tree_util.keystr(path, simple=True, separator="/"))
  assert all(np.all(leaf != 0) for leaf in jax.tree.leaves(gradient))


def test_the_slow_part_is_differentiated_through_the_steps_of_the_fast_one():
  """Its derivative is not the one that takes the adapted head as given."""
  modes = (only("head", gradient_steps(optax.sgd(RATE), 3, gradient=mode)) for mode in ("mixed", "first_order"))
  (adapted, gradient), (_, first_order) = adapted_and_meta_gradients(*modes)
  given = jax.jit(jax.grad(loss))(adapted, QUERY)
  assert not np.allclose(gradient["encoder"]["norm"], given["encoder"]["norm"], rtol=1e-2)
  close(first_order, given)


def test_an_adapt_of_one_part_sees_that_part_and_one_of_several_sees_a_tuple():
  seen = []

  def adapt(loss, params, data):
    seen.append(jax.tree.structure(params))
    return params, loss(params, data)

  all_names = ("head", ["head"], ["head/bias", "encoder"])
  run = lambda: ([only(names, adapt)(loss, PARAMS, SUPPORT) for names in all_names], loss(PARAMS, SUPPORT))
  found, value = jax.jit(run)()
  for adapted, path in found:
    close((adapted, path), (PARAMS, value))
  head, encoder = PARAMS["head"], PARAMS["encoder"]
  assert seen == [jax.tree.structure(part) for part in (head, (head,), (head["bias"], encoder))]


def test_then_does_what_one_does_and_then_the_other():
  head, everything = only("head", gradient_steps(optax.sgd(RATE), 1)), gradient_steps(optax.sgd(RATE), 2)
  first, second = written_out(1, lambda path: path.startswith("head/")), written_out(2, lambda path: True)
  both = lambda loss, params, data: second(loss, first(loss, params, data)[0], data)
  close(*adapted_and_meta_gradients(chain(head, everything), both))


def test_the_path_of_then_is_that_of_both():
  head, everything = only("head", gradient_steps(optax.sgd(RATE), 2)), gradient_steps(optax.sgd(RATE), 3)

  @jax.jit
  def paths():
    middle, early = head(loss, PARAMS, SUPPORT)
    _, path = chain(head, chain(everything, newton(1, damping=1.0)))(loss, PARAMS, SUPPORT)
    return early, everything(loss, middle, SUPPORT)[1], path

  early, late, path = paths()
  assert path.shape == (6,)
  close(path[:5], np.concatenate([early, late]))


def test_the_path_of_trajectories_of_different_parts_is_the_pair_of_both():
  steps = gradient_steps(optax.sgd(RATE), 2, trajectory=True)
  path_of = lambda adapt: jax.eval_shape(lambda: adapt(loss, PARAMS, SUPPORT)[1])
  early, late = path_of(chain(only("head", steps), steps))
  assert jax.tree.structure(early) == jax.tree.structure(PARAMS["head"])
  assert jax.tree.structure(late) == jax.tree.structure(PARAMS)
  assert path_of(chain(steps, steps))["head"]["weight"].shape == (4, 4)


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
  with pytest.raises(ValueError, match=f"disjoint parts, got {names[0]} and {names[1]}"):
    only(names, gradient_steps(optax.sgd(RATE), 1))(loss, PARAMS, SUPPORT)


def test_no_part_is_refused():
  with pytest.raises(ValueError, match="expected the name of a part to adapt, got none"):
    only([], gradient_steps(optax.sgd(RATE), 1))(loss, PARAMS, SUPPORT)
