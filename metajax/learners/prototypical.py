"""Prototypical networks (Snell et al. 2017, arXiv:1703.05175)."""

from typing import Literal

from metajax import checks
from metajax.learners._comparison import by_comparison, without_parameters
from metajax.predictors import centroid_cosines, centroid_logits
from metajax.types import Learner, Network

Distance = Literal["euclidean", "cosine"]


def prototypical(
  network: Network, *, distance: Distance = "euclidean", scale: float = 10.0, chunk_size: int | None = None
) -> Learner:
  """Learns an embedding in which the nearest class mean is the right one:

      logits_k(x) = -|f(x) - c_k|^2,   or   scale cos(f(x), c_k),   c_k = mean_{support of k} f

  trained by the cross-entropy of the query. A network with batch norm is trained on the statistics of support and
  query together and predicts with its running statistics, so the prediction is inductive: one query does not depend on
  the others. Any number of ways and shots, at training (more ways than at test help) and at test.

  Args:
    network: inputs `[n, ...]` to embeddings `[n, d]`.
    distance: squared "euclidean", which the paper found better, or "cosine".
    scale: of cosines, which alone lie between -1 and 1.
    chunk_size: how many tasks run as one vectorized group.

  Raises:
    TypeError: if it is no Network.
    ValueError: if `distance` is unknown or `scale` not above 0; at init, if labels are not one-hot or the network's
      outputs are not `[n, d]`.
  """
  checks.choice("distance", distance, Distance)
  checks.scalar("a scale", scale)
  checks.positive("a scale", scale)

  def cosines(support, labels, queries):
    return scale * centroid_cosines(support, labels, queries)

  head = without_parameters(centroid_logits if distance == "euclidean" else cosines)
  return by_comparison(network, head, chunk_size=chunk_size)
