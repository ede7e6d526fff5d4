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
  """Prototypical networks: learn an embedding for classification by the nearest class mean (arXiv:1703.05175).

      logits_k(x) = -|f(x) - c_k|^2,   or   scale cos(f(x), c_k),   c_k = mean_{support of k} f

  Training minimizes the cross-entropy of the query. A network with batch norm is trained on the joint statistics of
  support and query and predicts with running statistics, so the prediction is inductive: one query does not depend on
  the others. Any number of ways and shots, in training (more ways than at test time help) and at test time.

  Args:
    network: Inputs `[n, ...]` to embeddings `[n, d]`.
    distance: Squared "euclidean", which the paper found better, or "cosine".
    scale: Factor of the cosines, which lie between -1 and 1.
    chunk_size: Number of tasks per vectorized group.

  Returns:
    A Learner of batches of `Episode`s; `predict` returns logits `[n, ways]`.

  Raises:
    TypeError: If `network` is not a Network.
    ValueError: If `distance` is unknown or `scale` not above 0; at init, if labels are not one-hot or the network's
      outputs are not `[n, d]`.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> from metajax import Episode, Examples, learners, networks
    >>> learner = learners.prototypical(networks.mlp((4,), 2))
    >>> tasks = Examples(jnp.ones((8, 6, 4)), jnp.tile(jnp.eye(3), (8, 2, 1)))  # 8 tasks of 3 ways and 2 shots
    >>> params, state = jax.eval_shape(learner.init, jax.random.key(0), Episode(tasks, tasks))
    >>> jax.eval_shape(learner.predict, params, state, jax.tree.map(lambda x: x[0], tasks), jnp.ones((5, 4))).shape
    (5, 3)
  """
  checks.choice("distance", distance, Distance)
  checks.scalar("a scale", scale)
  checks.positive("a scale", scale)

  def cosines(support, labels, queries):
    return scale * centroid_cosines(support, labels, queries)

  head = without_parameters(centroid_logits if distance == "euclidean" else cosines)
  return by_comparison(network, head, chunk_size=chunk_size)
