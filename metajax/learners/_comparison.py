"""Shared parts of learners that compare query with support embeddings: an encoder and a comparison head."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from metajax.compose.combinators import blank_features, check_networks, split
from metajax.learners._checks import check_episodes, check_padding, check_rows
from metajax.learners._episodes import episodic_loss, first_support
from metajax.losses import check_fits, cross_entropy
from metajax.types import Array, Inputs, Key, Learner, LossOfOutputs, Network, Params, State


def by_comparison(
  network: Network, head: Network, *, loss: LossOfOutputs = cross_entropy, chunk_size: int | None = None
) -> Learner:
  """Builds a Learner from an embedding and a comparison head: `logits = head(f(support), labels, f(query))`.

  A network with batch norm is trained on the joint statistics of support and query and predicts with running
  statistics, so the prediction is inductive: one query does not depend on the others.

  Args:
    network: The embedding `f`, inputs `[n, ...]` to `[n, d]`, or to any features that the head compares.
    head: Comparison `(f(support), one-hot labels [s, ways], f(query)) -> logits [n, ways]`.
    loss: Function `(logits, labels) -> scalar` that gives an all-zero row of labels no weight.
    chunk_size: Number of tasks per vectorized group.

  Raises:
    TypeError: If `network` is not a Network.
    ValueError: At init, if labels are not one-hot, rows are padded and the network keeps batch statistics, or the head
      rejects the embeddings.
  """
  check_networks(network=network)

  def init(key, episodes):
    check_episodes(episodes)
    encoder_key, head_key = jax.random.split(key)
    inputs, labels = first_support(episodes), episodes.support.labels[0]
    params, state = network.init(encoder_key, inputs)
    check_padding(state, episodes)
    features = blank_features(network, params, state, inputs)
    of_head, head_state = head.init(head_key, features, labels, features)
    check_padding(head_state, episodes)
    logits = jax.eval_shape(lambda: head.apply(of_head, head_state, features, labels, features, train=False)[0])
    check_fits(logits, labels)
    return {"encoder": params, "head": of_head}, {"encoder": state, "head": head_state}

  def answer(params, state, support, queries, key=None):
    encoder_key, head_key = split(key, 2)
    both = jax.tree.map(lambda s, q: jnp.concatenate([s, q]), support.inputs, queries)
    embedded, of_encoder = network.apply(params["encoder"], state["encoder"], both, train=True, key=encoder_key)
    shots = support.labels.shape[0]
    support_features, query_features = (
      jax.tree.map(part, embedded) for part in (lambda x: x[:shots], lambda x: x[shots:])
    )
    logits, of_head = head.apply(
      params["head"], state["head"], support_features, support.labels, query_features, train=True, key=head_key
    )
    return logits, {"encoder": of_encoder, "head": of_head}, {}

  def embedded(params, state, inputs):
    return network.apply(params["encoder"], state["encoder"], inputs, train=False)[0]

  def embed(params, state, inputs):
    features = embedded(params, state, inputs)
    return features.reshape(features.shape[0], -1)

  def predict(params, state, support, inputs):
    support_features, query_features = embedded(params, state, support.inputs), embedded(params, state, inputs)
    return head.apply(params["head"], state["head"], support_features, support.labels, query_features, train=False)[0]

  return Learner(init, episodic_loss(answer, loss, chunk_size, classifies=True), embed, predict)


def without_parameters(compare: Callable[[Array, Array, Array], Array]) -> Network:
  """A comparison head without parameters, `compare(support, labels, queries)`, for embeddings `[n, d]`.

  Raises:
    ValueError: At init, if the embeddings are not rows.
  """

  def init(key, support, labels, queries):
    check_rows(support)
    return {}, {}

  def apply(params, state, support, labels, queries, *, train, key=None):
    return compare(support, labels, queries), state

  return Network(init, apply)


def embed_together(
  network: Network, params: Params, state: State, parts: Sequence[Inputs], key: Key
) -> tuple[list[Array], State]:
  """The embeddings `[n, d]` of each of several inputs `[n, ...]`, in one training pass over all of them.

  The rows of the inputs are interleaved, not concatenated, so that each row stays on its device in a mesh.
  """
  rows = jax.tree.map(lambda *x: jnp.stack(x, 1).reshape(-1, *x[0].shape[1:]), *parts)
  embedded, state = network.apply(params, state, rows, train=True, key=key)
  return [embedded[i :: len(parts)] for i in range(len(parts))], state
