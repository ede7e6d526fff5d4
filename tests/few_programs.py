"""Experiments' commands with fewer programs to compile and less to draw: both have tests of their own."""

import functools
import zlib

import drawn_by_numpy
import jax
import jax.numpy as jnp
import numpy as np
import one_block
import pytest
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun
from jax.interpreters.partial_eval import dce_jaxpr

from experiments import clip, few_shot, fine_tune, pretext_scores, pretraining, pretraining_page
from metajax import checkpoint, checks, train
from metajax.report import drawing
from metajax.train import run as training


def use(patch: pytest.MonkeyPatch):
  """Every command run from now on starts from numbers of NumPy's, and checks and draws by NumPy."""
  patch.setattr(few_shot, "episodes", drawn_by_numpy.episodes)
  patch.setattr(pretraining, "examples", drawn_by_numpy.examples)
  patch.setattr(fine_tune, "examples", drawn_by_numpy.examples)
  patch.setattr(clip, "image_texts", drawn_by_numpy.image_texts)
  patch.setattr(checks, "_worst", _worst)
  patch.setattr(checkpoint, "_fingerprints", _fingerprints)
  begin = functools.partial(_start, {})
  for module in (pretraining, clip, training):
    patch.setattr(module, "start", begin)
  patch.setattr(drawing, "DOTS_PER_INCH", 32)
  patch.setattr(pretraining_page, "PICTURES", 2)
  patch.setattr(pretraining_page, "VIEWS", 1)
  patch.setattr(pretext_scores, "SHOWN", 2)
  one_block.use(patch)


def _start(known, learner, optimizer, batch, seed=0):
  """As `metajax.train.start`, but all of what a learner begins with is one program, of numbers that NumPy draws."""
  of_learner, of_both = (learner.init, seed), (learner.init, optimizer.init, seed)
  if of_learner not in known:
    known[of_learner] = _without_unused(lambda key: _drawn(learner.init, key, batch, seed), jax.random.key(seed))
  params, state = known[of_learner]
  if of_both not in known:
    known[of_both] = jax.jit(lambda: optimizer.init(params))()
  given = learner._replace(init=lambda key, batch: (params, state))
  return train.start(given, optimizer._replace(init=lambda params: known[of_both]), batch, seed)


def _without_unused(function, *given):
  """What a function gives, by a program of that alone: `init` runs its networks too, for their shapes."""
  traced, shapes = jax.make_jaxpr(function, return_shape=True)(*given)
  needed, _ = dce_jaxpr(traced.jaxpr, [True] * len(traced.out_avals), instantiate=True)
  found = jax.jit(jaxpr_as_fun(ClosedJaxpr(needed, traced.consts)))(*given)
  return jax.tree.unflatten(jax.tree.structure(shapes), found)


def _drawn(init, key, batch, seed):
  """What `init` gives, of NumPy's numbers: JAX's own take a second to compile."""
  random, drawn = np.random.default_rng(seed), jax.nn.initializers.normal.__globals__["random"]

  def normal(key, shape=(), dtype=float, **_):
    return jnp.asarray(random.normal(size=shape), dtype)

  def uniform(key, shape=(), dtype=float, minval=0.0, maxval=1.0, **_):
    return jnp.asarray(random.uniform(minval, maxval, shape), dtype)

  def truncated_normal(key, lower, upper, shape=(), dtype=float, **_):
    return jnp.asarray(np.clip(random.normal(size=shape), lower, upper), dtype)

  with pytest.MonkeyPatch.context() as patch:
    for draw in (normal, uniform, truncated_normal):
      for module in (jax.random, drawn):
        patch.setattr(module, draw.__name__, draw)
    return init(key, batch)


def _worst(leaves):
  kind = lambda x: 2 if np.isnan(x).any() else int(np.isinf(x).any())
  return np.array([kind(np.asarray(x)) for x in leaves], np.int8)


def _fingerprints(arrays):
  """As far as a test needs them: of the bytes of each array; of a traced one nothing."""
  there = {name: x for name, x in arrays.items() if not isinstance(x, jax.core.Tracer)}
  return {name: np.uint32(zlib.crc32(np.asarray(x).tobytes())) for name, x in there.items()}
