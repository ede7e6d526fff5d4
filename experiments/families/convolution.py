"""The convolution of a network that no step runs in a loop."""

import jax

from metajax.networks.linen.convolution import Convolution


def outside_loops() -> Convolution:
  """Returns "native" on a GPU, where neither is measured and XLA's own is what others run; else "auto"."""
  return "native" if jax.default_backend() == "gpu" else "auto"
