"""The product with fast derivatives is `@`: its values, all its derivatives, its transformations, its sizes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from metajax import make_mesh
from metajax.networks import matmul
from metajax.networks.matmul import dot_general

DRAWN = np.random.default_rng(0)
ROWS, KERNEL, OUT = (DRAWN.normal(size=size).astype("f") for size in ((6, 4), (4, 3), (6, 3)))


def agree(of, *arguments):
  """Whether a function of a product has the same value with `matmul` as with `@`."""
  found, wanted = of(matmul)(*arguments), of(jnp.matmul)(*arguments)
  jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5), found, wanted)


def loss(product):
  return lambda x, w: (jnp.sin(product(x, w)) * OUT[: len(x)]).sum()


FORMS = {
  "value": lambda product: product,
  "gradients": lambda product: jax.grad(loss(product), (0, 1)),
  "tangents": lambda product: lambda x, w: jax.jvp(product, (x, w), (x + 1, w * 2)),
  "forward over reverse": lambda product: lambda x, w: jax.jvp(jax.grad(loss(product), (0, 1)), (x, w), (x + 1, w * 2)),
  "reverse over reverse": lambda product: jax.hessian(loss(product), (0, 1)),
  "a narrow cotangent": lambda product: jax.grad(lambda x, w: loss(product)(x, w[:, :1]), (0, 1)),
  "many rows": lambda product: lambda x, w: jax.vmap(product, (0, None))(jnp.stack([x, x + 1]), w),
  "many kernels": lambda product: lambda x, w: jax.vmap(product, (None, 2))(x, jnp.stack([w, w + 1], 2)),
  "many of both": lambda product: (
    lambda x, w: jax.vmap(jax.grad(loss(product), (0, 1)))(jnp.stack([x, x + 1]), jnp.stack([w, w + 1]))
  ),
  "many gradients": lambda product: (
    lambda x, w: jax.vmap(jax.grad(loss(product), (0, 1)), (0, None))(jnp.stack([x, x + 1]), w)
  ),
}


@pytest.mark.parametrize("form", FORMS)
def test_it_is_the_product_under_every_transformation(form):
  agree(FORMS[form], ROWS, KERNEL)


@pytest.mark.parametrize("outputs", [3, 9])
def test_its_derivative_by_the_kernel_copies_the_narrower_matrix_on_a_cpu(outputs):
  rows, kernel = jax.ShapeDtypeStruct((7, 5), "float32"), jax.ShapeDtypeStruct((5, outputs), "float32")
  traced = jax.jit(lambda x, w, out: jax.vjp(lambda w: matmul(x, w), w)[1](out)).trace(
    rows, kernel, jax.ShapeDtypeStruct((7, outputs), "float32")
  )
  program = traced.lower(lowering_platforms=("cpu",)).as_text()
  copies = [line for line in program.splitlines() if "optimization_barrier" in line]
  assert any(f"tensor<{min(5, outputs)}x7xf32>" in line for line in copies)
  assert not any(f"tensor<{max(5, outputs)}x7xf32>" in line for line in copies)
  assert "optimization_barrier" not in traced.lower(lowering_platforms=("tpu",)).as_text()


def test_a_cpu_computes_the_matrix_that_it_copies_once():
  def gradients(x, w):
    return jax.grad(lambda x, w: (matmul(jnp.sin(x), w) ** 2).sum(), (0, 1))(x, w)

  shapes = jax.ShapeDtypeStruct((64, 5), "float32"), jax.ShapeDtypeStruct((5, 9), "float32")
  program = jax.jit(gradients).lower(*shapes).compile().as_text()
  assert len([line for line in program.splitlines() if " sine(" in line]) == 1


def test_leading_axes_dtypes_and_sizes():
  assert matmul(ROWS.reshape(2, 3, 4), KERNEL).shape == (2, 3, 3) and matmul(ROWS[0], KERNEL).shape == (3,)
  assert matmul(jnp.bfloat16(ROWS), KERNEL).dtype == jnp.float32
  assert matmul(jnp.bfloat16(ROWS), jnp.bfloat16(KERNEL)).dtype == jnp.bfloat16
  for x, w in ((ROWS, OUT), (ROWS, KERNEL[0]), (np.float32(1), KERNEL)):
    with pytest.raises(ValueError, match=r"expected inputs \[..., values\] and a kernel \[values, outputs\], got"):
      matmul(x, w)


@pytest.mark.parametrize(
  "dims",
  [(((2,), (0,)), ((), ())), (((1, 2), (0, 1)), ((), ())), (((1,), (0,)), ((), ())), (((2,), (1,)), ((0,), (0,)))],
)
def test_layers_of_flax_get_the_product_of_their_axes(dims):
  x, w = DRAWN.normal(size=(3, 4, 4)).astype("f"), DRAWN.normal(size=(4, 4, 2)).astype("f")
  if dims[1] != ((), ()):
    w = w.transpose(2, 1, 0)[:1].repeat(3, 0)
  found = dot_general(jnp.asarray(x), jnp.asarray(w), dims, precision=None)
  np.testing.assert_allclose(found, jax.lax.dot_general(x, w, dims), rtol=1e-5, atol=1e-6)


def test_a_shard_map_that_checks_its_axes_takes_a_replicated_kernel():
  def of(product):
    local = lambda x, w: jax.lax.psum(loss(product)(x, w), "data")
    return jax.grad(jax.shard_map(local, mesh=make_mesh(2), in_specs=(P("data"), P()), out_specs=P()), (0, 1))

  agree(of, np.tile(ROWS[:3], (2, 1)), KERNEL)


def test_it_is_exported_for_any_number_of_rows():
  (n,) = jax.export.symbolic_shape("n")
  run = jax.export.export(jax.jit(matmul))(
    jax.ShapeDtypeStruct((n, 4), "float32"), jax.ShapeDtypeStruct((4, 3), "float32")
  )
  np.testing.assert_allclose(run.call(ROWS, KERNEL), ROWS @ KERNEL, rtol=1e-5)
