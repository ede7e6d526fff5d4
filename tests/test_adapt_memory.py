"""What a meta-gradient costs: the memory of compiled programs, and the matrix products in them. Nothing is run."""

import functools
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.extend.core import jaxprs_in_params
from jax.interpreters.partial_eval import dce_jaxpr

from metajax.adapt import gradient_steps, implicit, newton

SGD, ADAM = optax.sgd(1e-2), optax.adam(1e-2, eps_root=1e-8)
WIDE = {"width": 256, "hidden": 1024, "blocks": 8, "rows": 2048}  # activations dominate
SMALL = {"width": 128, "hidden": 256, "blocks": 4, "rows": 64}  # parameters do
MILLION = {"width": 256, "hidden": 256, "blocks": 8, "rows": 32}


def block(inputs, params):
  centered = inputs - inputs.mean(-1, keepdims=True)
  normed = centered * jax.lax.rsqrt(inputs.var(-1, keepdims=True) + 1e-6)
  return inputs + jax.nn.gelu(normed @ params["a"]) @ params["b"], None


def plain_block(inputs, params):
  """That is compiled in half the time, where activations do not matter."""
  return inputs + jnp.tanh(inputs @ params["a"]) @ params["b"], None


def residual_loss(params, data, block=plain_block):
  """Blocks scanned, each of them rematerialized."""
  inputs, targets = data
  features, _ = jax.lax.scan(jax.checkpoint(block), inputs, params["blocks"])
  return jnp.mean(jnp.square(features @ params["out"] - targets))


def residual_shapes(width, hidden, blocks, rows):
  shape = lambda *shape: jax.ShapeDtypeStruct(shape, jnp.float32)
  params = {"blocks": {"a": shape(blocks, width, hidden), "b": shape(blocks, hidden, width)}, "out": shape(width, 1)}
  return params, (shape(rows, width), shape(rows, 1))


def meta_gradient(adapt, loss):
  return jax.grad(lambda params, data: loss(adapt(loss, params, data)[0], data))


@functools.cache
def costs(adapt, loss=residual_loss, **sizes):
  """(temporary memory in sizes of the parameters, lines as lowered, lines as compiled) of a meta-gradient."""
  shapes = residual_shapes(**sizes)
  lowered = jax.jit(meta_gradient(adapt, loss)).lower(*shapes)
  compiled = lowered.compile()
  size = sum(4 * leaf.size for leaf in jax.tree.leaves(shapes[0]))
  lines = (program.as_text().count(" = ") for program in (lowered, compiled))
  return compiled.memory_analysis().temp_size_in_bytes / size, *lines


def memory(adapt, loss=residual_loss, **sizes):
  return costs(adapt, loss, **sizes)[0]


wide_loss = functools.partial(residual_loss, block=block)


@functools.cache
def steps_of(optimizer, steps, **how):
  return gradient_steps(optimizer, steps, **how)


# Since jax 0.12, reverse mode itself takes a tenth less memory; mixed mode takes as much as before.
OF_REVERSE = 1.0 if tuple(map(int, jax.__version__.split(".")[:2])) < (0, 12) else 0.9


@pytest.mark.parametrize(
  ("optimizer", "remat", "at_most", "below_reverse", "below_its_remat"),
  [(SGD, "gradients", 19, 12, 2.4), (ADAM, "gradients", 46, 7, 1.4), (ADAM, "step", 38, 8, 1.7)],
  ids=["sgd", "adam", "adam, step"],
)
def test_mixed_takes_a_fraction_of_the_memory_of_reverse(optimizer, remat, at_most, below_reverse, below_its_remat):
  """In sizes of the parameters."""
  mixed = memory(steps_of(optimizer, 8, remat=remat), wide_loss, **WIDE)
  reverse = memory(steps_of(optimizer, 8, gradient="reverse"), wide_loss, **WIDE)
  rematerialized = memory(steps_of(optimizer, 8, gradient="reverse", remat="step"), wide_loss, **WIDE)
  assert mixed <= at_most
  assert reverse >= OF_REVERSE * below_reverse * mixed
  assert rematerialized >= OF_REVERSE * below_its_remat * mixed


@pytest.mark.parametrize(("remat", "each"), [("gradients", 2 + 2), ("step", 1 + 2)])
def test_a_step_of_adam_adds_its_state_and_what_remat_says(remat, each):
  """In sizes of the parameters: Adam's state is two of them, and the gradient another."""
  few, many = (memory(steps_of(ADAM, steps, remat=remat), **SMALL) for steps in (8, 64))
  assert 0 < many - few <= 1.1 * each * (64 - 8)


def test_sqrt_grows_like_the_square_root_of_the_steps():
  few, many = (memory(steps_of(ADAM, steps, remat="sqrt"), **SMALL) for steps in (64, 256))
  assert 0 < many - few <= 1.1 * 2 * (1 + 2) * (math.sqrt(256) - math.sqrt(64))


def test_memory_of_first_order_does_not_grow_with_the_steps():
  few, many = (memory(steps_of(ADAM, steps, gradient="first_order"), **SMALL) for steps in (8, 64))
  assert many <= 1.05 * few


def test_memory_of_implicit_grows_with_neither_the_steps_nor_those_of_conjugate_gradients():
  base, *more = (memory(implicit(SGD, k, 1.0, cg_steps=c), **SMALL) for k, c in ((8, 5), (64, 5), (8, 50)))
  assert max(more) <= 1.05 * base


@pytest.mark.parametrize(("remat", "few", "many"), [("gradients", 8, 64), ("step", 8, 64), ("sqrt", 64, 256)])
def test_the_program_does_not_grow_with_the_steps(remat, few, many):
  (_, lowered_few, compiled_few), (_, lowered_many, compiled_many) = (
    costs(steps_of(ADAM, steps, remat=remat), **SMALL) for steps in (few, many)
  )
  assert lowered_many == lowered_few
  # Which instructions are fused differs by a few between machines; a loop unrolled would be four times as many.
  assert compiled_many <= 1.05 * compiled_few


@pytest.mark.parametrize("adapt", [newton(2), implicit(SGD, 8, 1.0)], ids=["newton", "implicit"])
def test_second_order_steps_of_a_million_parameters_fit_in_twenty_times_their_size(adapt):
  assert sum(leaf.size for leaf in jax.tree.leaves(residual_shapes(**MILLION)[0])) > 1e6
  assert memory(adapt, **MILLION) < 20


def products(fn, *arguments):
  """Floating-point operations of the matrix products in a function's program, once what is not used is left out."""

  def count(jaxpr):
    total = 0
    for equation in jaxpr.eqns:
      if equation.primitive.name == "dot_general":
        left, (contracted, _) = equation.invars[0].aval.shape, equation.params["dimension_numbers"][0]
        total += 2 * math.prod(equation.outvars[0].aval.shape) * math.prod(left[i] for i in contracted)
      total += equation.params.get("length", 1) * sum(map(count, jaxprs_in_params(equation.params)))
    return total

  jaxpr = jax.make_jaxpr(fn)(*arguments).jaxpr
  return count(dce_jaxpr(jaxpr, [True] * len(jaxpr.outvars))[0])


def mlp_loss(params, data):
  hidden, targets = data
  for weight in params:
    hidden = jnp.tanh(hidden @ weight)
  return jnp.mean(jnp.square(hidden - targets))


MLP = [np.zeros((64, 64), np.float32)] * 4, (np.zeros((128, 64), np.float32), np.zeros((128, 64), np.float32))


@pytest.mark.parametrize(
  ("remat", "gradients", "optimizer"), [("gradients", 11 / 3, SGD), ("step", 14 / 3, ADAM)], ids=["gradients", "step"]
)
def test_a_step_of_mixed_takes_the_arithmetic_of_eleven_thirds_of_a_gradient_and_with_step_of_one_more(
  remat, gradients, optimizer
):
  """The gradient, two thirds of it again, and its tangents, which are twice as much."""
  one, steps = products(jax.value_and_grad(mlp_loss), *MLP), 4
  found = products(meta_gradient(gradient_steps(optimizer, steps, remat=remat), mlp_loss), *MLP)
  reverse = products(meta_gradient(gradient_steps(optimizer, steps, gradient="reverse"), mlp_loss), *MLP)
  assert (gradients - 0.4) * steps * one + one < found <= gradients * steps * one + one
  assert 2.5 * steps * one + one < reverse <= 3 * steps * one + one


def test_written_out_mixed_takes_the_arithmetic_of_three_gradients(monkeypatch):
  """Where nothing keeps the compiler from sharing the forward passes: in a scan it cannot."""
  monkeypatch.setattr(jax.lax, "scan", functools.partial(jax.lax.scan, unroll=True))
  count = lambda fn: len(re.findall(r" dot\(", jax.jit(fn).lower(*MLP).compile().as_text()))  # all of one size
  one, steps = count(jax.value_and_grad(mlp_loss)), 4
  assert (
    one == 11
    and 2.5 * steps * one < count(meta_gradient(gradient_steps(SGD, steps), mlp_loss)) <= 3.1 * steps * one + one
  )


def test_data_that_no_one_differentiates_costs_no_cotangent():
  apart = lambda params, data: mlp_loss(params, jax.lax.stop_gradient(data))
  adapt = gradient_steps(SGD, 4)
  found, without = (products(meta_gradient(adapt, loss), *MLP) for loss in (mlp_loss, apart))
  of_data = jax.grad(lambda params, data: mlp_loss(adapt(mlp_loss, params, data)[0], MLP[1]), (0, 1))
  assert found == without < products(of_data, *MLP)
