"""The platform that a program is traced for."""

import jax


def platform() -> str:
  """Returns "cpu", "gpu" or "tpu": the platform of the current mesh, without a mesh JAX's default.

  It differs from `jax.default_backend()` where a program is compiled for a machine that is not there.
  """
  device = jax.sharding.get_abstract_mesh().abstract_device
  return jax.default_backend() if device is None else device.platform
