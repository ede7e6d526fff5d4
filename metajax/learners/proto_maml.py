"""MAML whose head starts at the classes' prototypes: Proto-MAML (Triantafillou et al. 2020, arXiv:1903.03096)."""

import jax.numpy as jnp

from metajax.compose import linear, with_head
from metajax.compose.combinators import split
from metajax.learners._adaptation import QueryNorm, embedding, fine_tune
from metajax.learners._episodes import episodic_loss, init_embedding, predict_of
from metajax.losses import cross_entropy
from metajax.predictors import class_means, without_empty_ways
from metajax.types import Adapt, Learner, Network


def proto_maml(
  encoder: Network, adapt: Adapt, *, query_norm: QueryNorm = "transductive", chunk_size: int | None = None
) -> Learner:
  """Learns an embedding from which a new task is learned, with a head that starts as a prototypical network's:

      logits(x) = W f(x) + b,   W_k = 2 c_k,   b_k = -|c_k|^2,   c_k = mean_{support of k} f

  which is `-|f(x) - c_k|^2` up to what all ways have in common; `adapt` then tunes embedding and head on the support.
  The gradient passes through the prototypes. Any number of ways and shots; a way without support is never chosen.

  Args:
    encoder: inputs `[n, ...]` to embeddings `[n, d]`.
    adapt: the inner loop, of params `{"encoder": ..., "head": {"weight": [d, ways], "bias": [ways]}}`. With
      `only("head", ...)` the encoder stays.
    query_norm: what batch norm normalizes the queries with, as in `maml`.
    chunk_size: how many tasks run as one vectorized group.

  Raises:
    TypeError: if the encoder is no Network, or `adapt` no function.
    ValueError: if `query_norm` is unknown; at init, if the encoder's outputs are not `[n, d]` or labels are not
      one-hot.
  """
  network, embed_alone = with_head(encoder, linear(1)), embedding(encoder, query_norm)
  tune = fine_tune(network, adapt, cross_entropy, query_norm)

  def init(key, episodes):
    return init_embedding(encoder, key, episodes)

  def answer(params, state, support, queries, key=None):
    start_key, key = split(key, 2)
    features = encoder.apply(params, state, support.inputs, train=True, key=start_key)[0]
    theta = {"encoder": params, "head": _as_head(class_means(features, support.labels), support.labels)}
    logits, after, metrics = tune(theta, {"encoder": state, "head": {}}, support, queries, key)
    return logits, after["encoder"], metrics

  return Learner(init, episodic_loss(answer, chunk_size=chunk_size), embed_alone, predict_of(answer))


def _as_head(prototypes, labels):
  """The linear head of which the logits differ as minus the squared distances to prototypes `[ways, d]` do."""
  return {"weight": 2 * prototypes.T, "bias": without_empty_ways(-jnp.square(prototypes).sum(-1), labels)}
