"""The multi-layer perceptron."""

from collections.abc import Callable, Sequence

import flax.linen as nn
import jax

from metajax.networks.linen.from_linen import from_linen
from metajax.types import Array, Network


def mlp(hidden: Sequence[int], num_outputs: int, activation: Callable[[Array], Array] = jax.nn.relu) -> Network:
  """Dense layers of widths `hidden`, an activation after each, then a linear one: `[n, ...] -> [n, num_outputs]`."""
  return from_linen(_Perceptron(tuple(hidden), num_outputs, activation))


class _Perceptron(nn.Module):
  hidden: tuple[int, ...]
  num_outputs: int
  activation: Callable[[Array], Array]

  @nn.compact
  def __call__(self, inputs, train):
    features = inputs.reshape(len(inputs), -1)
    for width in self.hidden:
      features = self.activation(nn.Dense(width)(features))
    return nn.Dense(self.num_outputs)(features)
