"""The projection head of contrastive learning, discarded after training (arXiv:2002.05709, 2006.10029)."""

import flax.linen as nn
import jax

from metajax.networks.linen.from_linen import from_linen
from metajax.types import Network


def projection_head(
  hidden: int = 2048, num_outputs: int = 128, num_layers: int = 2, *, batch_norm: bool = True
) -> Network:
  """SimCLR's projection head: dense layers with ReLUs between them.

  Args:
    hidden: Number of units of all layers but the last.
    num_outputs: Number of outputs.
    num_layers: Number of layers: 2 in SimCLR, 3 in SimCLRv2; 1 is a linear projection.
    batch_norm: Whether batch norm follows each layer, without a bias after the last, as in SimCLR.

  Returns:
    A Network from features `[n, d]` to `[n, num_outputs]`.

  Raises:
    ValueError: if a number is below 1; at init, if the features are not `[n, d]`.
  """
  if min(hidden, num_outputs, num_layers) < 1:
    raise ValueError(f"expected at least 1 unit, output and layer, got {hidden}, {num_outputs} and {num_layers}")
  return from_linen(_ProjectionHead(hidden, num_outputs, num_layers, batch_norm))


class _ProjectionHead(nn.Module):
  hidden: int
  num_outputs: int
  num_layers: int
  batch_norm: bool

  @nn.compact
  def __call__(self, features, train):
    if features.ndim != 2:
      raise ValueError(f"expected features [n, d], got an array of shape {list(features.shape)}")
    for layer in range(self.num_layers):
      last = layer == self.num_layers - 1
      width = self.num_outputs if last else self.hidden
      features = nn.Dense(width, use_bias=not self.batch_norm, name=f"dense_{layer}")(features)
      if self.batch_norm:
        norm = nn.BatchNorm(not train, momentum=0.9, epsilon=1e-5, use_bias=not last, name=f"norm_{layer}")
        features = norm(features)
      features = features if last else jax.nn.relu(features)
    return features
