"""The multi-layer perceptron."""

from collections.abc import Callable, Sequence

import flax.linen as nn
import jax

from metajax.networks.linen.from_linen import from_linen
from metajax.types import Array, Network


def mlp(hidden: Sequence[int], num_outputs: int, activation: Callable[[Array], Array] = jax.nn.relu) -> Network:
  """A multi-layer perceptron on flattened inputs.

  Args:
    hidden: Widths of the hidden layers.
    num_outputs: Number of outputs of the final linear layer.
    activation: Activation after each hidden layer.

  Returns:
    A Network from `[n, ...]` to `[n, num_outputs]`.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> from metajax.networks import mlp
    >>> network, inputs = mlp([40, 40], num_outputs=1), jnp.zeros([8, 1])
    >>> jax.eval_shape(lambda: network.apply(*network.init(jax.random.key(0), inputs), inputs, train=False))[0].shape
    (8, 1)
  """
  return from_linen(_Perceptron(tuple(hidden), num_outputs, activation))


class _Perceptron(nn.Module):
  hidden: tuple[int, ...]
  num_outputs: int
  activation: Callable[[Array], Array]

  @nn.compact
  def __call__(self, inputs, train):
    features = inputs.reshape(inputs.shape[0], -1)
    for width in self.hidden:
      features = self.activation(nn.Dense(width)(features))
    return nn.Dense(self.num_outputs)(features)
