"""Precision by backend: one policy, named in the records, with which the laws hold to as many digits as it leaves."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from low_precision import TOLERANCES, at
from params_by_numpy import start
from table_of_learners import episodes, image_episodes

from metajax import gradient_steps
from metajax.compose import linear, with_head
from metajax.experiment import precision
from metajax.experiment.records import stamped
from metajax.learners import maml
from metajax.networks import from_linen, matmul, mlp
from metajax.networks.linen.conv4 import Blocks
from metajax.networks.linen.normalized_product import NormalizedProduct

DRAWN = np.random.default_rng(0)
POLICIES = tuple(TOLERANCES)


def distance(first, second):
  """Of two trees, relative to the norm of the second."""
  first, second = (np.concatenate([np.ravel(x) for x in jax.tree.leaves(tree)]) for tree in (first, second))
  return np.linalg.norm(first - second) / np.linalg.norm(second)


@pytest.mark.parametrize(
  ("asked", "by_backend"),
  [
    ("auto", {"cpu": "highest", "gpu": "default", "tpu": "default"}),
    ("highest", dict.fromkeys(("cpu", "gpu", "tpu"), "highest")),
    ("default", dict.fromkeys(("cpu", "gpu", "tpu"), "default")),
  ],
)
def test_the_policy_is_float32_on_a_cpu_and_the_fast_products_elsewhere_and_a_word_overrules_it(asked, by_backend):
  assert {backend: precision.resolved(asked, backend) for backend in by_backend} == by_backend


@pytest.mark.parametrize(
  ("backend", "asked", "name"),
  [
    ("cpu", "auto", "float32"),
    ("gpu", "auto", "tensorfloat32"),
    ("tpu", "auto", "bfloat16"),
    ("tpu", "high", "bfloat16_3x"),
    ("gpu", "highest", "float32"),
  ],
)
def test_records_name_what_products_are_computed_in(monkeypatch, backend, asked, name):
  monkeypatch.setattr(jax, "default_backend", lambda: backend)
  before = jax.config.jax_default_matmul_precision
  try:
    precision.set_precision(asked)
    assert stamped(value=1)["precision"] == name
  finally:
    jax.config.update("jax_default_matmul_precision", before)


@pytest.mark.parametrize("policy", ["tensorfloat32", "bfloat16"])
def test_the_rewritten_program_computes_products_of_rounded_factors(policy):
  x, w = DRAWN.normal(size=(4, 3)).astype("f"), DRAWN.normal(size=(3, 2)).astype("f")
  bits = {"tensorfloat32": 13, "bfloat16": 16}[policy]

  def rounded(x):
    whole = x.view(np.uint32).astype(np.int64)
    return ((whole + (1 << (bits - 1)) - 1 + ((whole >> bits) & 1)) >> bits << bits).astype(np.uint32).view("f")

  loop = lambda x, w: jax.lax.scan(lambda carry, _: (carry + matmul(x, w), None), jnp.zeros((4, 2)), None, 2)[0]
  np.testing.assert_allclose(at(policy, loop)(x, w), 2 * rounded(x) @ rounded(w), rtol=1e-6)
  exact = functools.partial(jnp.matmul, precision="highest")
  np.testing.assert_array_equal(at(policy, exact)(x, w), exact(x, w))


NETWORKS = {
  "mlp": (with_head(mlp((8,), 8), linear(3)), episodes),
  "conv4": (with_head(from_linen(Blocks(2, 12, "stride", "mean", 1, "batch", "slices")), linear(3)), image_episodes),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_mixed_mode_is_reverse_mode_to_the_digits_of_each_policy(name):
  network, batch = NETWORKS[name]
  batch = jax.tree.map(lambda x: x[:1], batch(0))
  mixed, reverse = (maml(network, gradient_steps(optax.sgd(0.1), 2, gradient=mode)) for mode in ("mixed", "reverse"))
  params, state = start(mixed.init, batch)
  gradient = lambda learner: jax.grad(lambda params: learner.loss(params, state, batch, jax.random.key(1))[0])
  traced_once = [jax.jit(gradient(learner)) for learner in (mixed, reverse)]
  for policy in POLICIES:
    found, wanted = (jax.jit(at(policy, one))(params) for one in traced_once)
    assert distance(found, wanted) < TOLERANCES[policy], policy


def test_a_batch_norm_from_products_keeps_a_small_variance_in_all_precisions():
  # Nine pixels that hardly differ, of which a kernel sees the differences alone.
  patches = (100 + DRAWN.normal(size=(400, 1)) + 0.01 * DRAWN.normal(size=(400, 9))).astype("f")
  kernel = DRAWN.normal(size=(9, 12)).astype("f")
  kernel -= kernel.mean(0)
  norm = NormalizedProduct(momentum=0.9)
  variables = norm.init(jax.random.key(0), patches, kernel, True)
  apply = lambda patches, kernel: norm.apply(variables, patches, kernel, True, mutable=["batch_stats"])[0]
  ordinary = nn.BatchNorm(False, momentum=0.9)
  with jax.enable_x64(True):
    wide = patches.astype("d") @ kernel.astype("d")
    wanted = ordinary.apply(ordinary.init(jax.random.key(0), wide), wide, mutable=["batch_stats"])[0]
  for policy in POLICIES:
    np.testing.assert_allclose(at(policy, apply)(patches, kernel), wanted, atol=2e-2)


def test_a_product_has_the_precision_of_the_moment_at_which_it_is_traced():
  def run(x, w):
    with jax.default_matmul_precision("highest"):
      first = matmul(x, w)
    with jax.default_matmul_precision("default"):
      return first, matmul(x, w)

  program = jax.jit(run).lower(np.ones((2, 3), "f"), np.ones((3, 4), "f")).as_text()
  precisions = [line.partition("precision = ")[2][:18] for line in program.splitlines() if "dot_general" in line]
  assert precisions == ["[HIGHEST, HIGHEST]", "[DEFAULT, DEFAULT]"]
