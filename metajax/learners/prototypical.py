"""Prototypical networks (Snell et al. 2017, arXiv:1703.05175)."""

import jax
import jax.numpy as jnp

from metajax.learners.episodic import check_embedding, check_episodes, check_padding, episodic_loss, first_support
from metajax.predictors import centroid_logits, nearest_centroid
from metajax.types import Learner, Network


def prototypical(network: Network, *, at_once: int | None = None) -> Learner:
  """Learns an embedding in which the nearest class mean is the right one:

      logits_k(x) = -|f(x) - mean_{support of k} f|^2

  trained by the cross-entropy of the query. A network with batch norm is trained on the statistics of support and
  query together and predicts with its running statistics, so the prediction is inductive: one query does not depend on
  the others. Any number of ways and shots, at training (more ways than at test help) and at test.

  Args:
    network: inputs `[n, ...]` to embeddings `[n, d]`.
    at_once: how many tasks run as one vectorised group.

  Raises:
    ValueError: at init, if labels are not one-hot or the network's outputs are not `[n, d]`.
  """

  def init(key, episodes):
    check_episodes(episodes)
    inputs = first_support(episodes)
    params, state = network.init(key, inputs)
    check_padding(state, episodes)
    check_embedding(network, params, state, inputs)
    return params, state

  def run(params, state, episode, key):
    support, query = episode
    both = jax.tree.map(lambda s, q: jnp.concatenate([s, q]), support.inputs, query.inputs)
    embeddings, state = network.apply(params, state, both, train=True, key=key)
    shots = len(support.labels)
    return centroid_logits(embeddings[:shots], support.labels, embeddings[shots:]), state, {}

  def embed(params, state, inputs):
    return network.apply(params, state, inputs, train=False)[0]

  return Learner(init, episodic_loss(run, at_once=at_once), embed, nearest_centroid(embed))
