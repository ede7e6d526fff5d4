"""Shared parts of learners that compare query with support embeddings: an encoder and a comparison head."""

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from metajax.compose.combinators import blank_features, check_networks, features_for, split
from metajax.learners._checks import check_episodes, check_mask, check_padding, check_rows
from metajax.learners._episodes import first_support, mean_over_episodes, of_task
from metajax.losses import check_fits, cross_entropy
from metajax.types import Array, Inputs, Key, Labels, Learner, Network, Params, Scalar, State

# (logits, query labels, support labels) -> scalar
LossOfTask = Callable[[Array, Labels, Labels], Scalar]


def by_comparison(
  network: Network, head: Network, *, loss: LossOfTask | None = None, chunk_size: int | None = None
) -> Learner:
  """Builds a Learner from an embedding and a comparison head: `logits = head(f(support), labels, f(query))`.

  A network with batch norm is trained on the joint statistics of support and query and predicts with running
  statistics, so the prediction is inductive: one query does not depend on the others.

  Args:
    network: The embedding `f`, inputs `[n, ...]` to `[n, d]`, or to any features that the head compares.
    head: Comparison `(f(support), one-hot labels [s, ways], f(query)) -> logits [n, ways]`. In training a head that
      keeps a state is given the features of padded queries as `Padded`.
    loss: Function `(logits, query labels, support labels) -> scalar` that gives an all-zero row of labels no weight; by
      default the cross-entropy.
    chunk_size: Number of tasks per vectorized group.

  Raises:
    TypeError: If `network` is not a Network.
    ValueError: At init, if labels are not one-hot, rows are padded and the network keeps batch statistics, or the head
      rejects the embeddings.
  """
  check_networks(network=network)

  def answer(params, state, support, queries, key=None):
    encoder_key, head_key = split(key, 2)
    both = jax.tree.map(lambda s, q: jnp.concatenate([s, q]), support.inputs, queries)
    embedded, of_encoder = network.apply(params["encoder"], state["encoder"], both, train=True, key=encoder_key)
    shots = support.labels.shape[0]
    support_features, query_features = (
      jax.tree.map(part, embedded) for part in (lambda x: x[:shots], lambda x: x[shots:])
    )
    query_features = features_for(state["head"], query_features, queries)
    logits, of_head = head.apply(
      params["head"], state["head"], support_features, support.labels, query_features, train=True, key=head_key
    )
    return logits, {"encoder": of_encoder, "head": of_head}, {}

  def task_loss(params, state, task):
    (support, query), key = task
    logits, state, metrics = answer(params, state, support, query.inputs, key)
    own = cross_entropy(logits, query.labels) if loss is None else loss(logits, query.labels, support.labels)
    return of_task(own, logits, query, state, metrics, classifies=True)

  def embedded(params, state, inputs):
    return network.apply(params["encoder"], state["encoder"], inputs, train=False)[0]

  def embed(params, state, inputs):
    features = embedded(params, state, inputs)
    return features.reshape(features.shape[0], -1)

  def predict(params, state, support, inputs):
    support_features, query_features = embedded(params, state, support.inputs), embedded(params, state, inputs)
    return head.apply(params["head"], state["head"], support_features, support.labels, query_features, train=False)[0]

  init = functools.partial(_init, network, head)
  return Learner(init, mean_over_episodes(task_loss, chunk_size), embed, predict)


def _init(network, head, key, episodes):
  """Params and state of a network and a comparison head, after all checks of a batch."""
  check_episodes(episodes)
  encoder_key, head_key = jax.random.split(key)
  inputs, labels = first_support(episodes), episodes.support.labels[0]
  params, state = network.init(encoder_key, inputs)
  check_padding(state, episodes)
  check_mask(network, params, state, inputs)
  features = blank_features(network, params, state, inputs)
  of_head, head_state = head.init(head_key, features, labels, features)
  check_padding(head_state, episodes)
  logits = jax.eval_shape(lambda: head.apply(of_head, head_state, features, labels, features, train=False)[0])
  check_fits(logits, labels)
  queries = features_for(head_state, features, inputs)
  check_mask(_with_support(head, features, labels), of_head, head_state, queries)
  return {"encoder": params, "head": of_head}, {"encoder": state, "head": head_state}


def _with_support(head: Network, support: Array, labels: Labels) -> Network:
  """A head as a network of query features alone."""

  def apply(params, state, queries, *, train, key=None):
    return head.apply(params, state, support, labels, queries, train=train, key=key)

  return Network(head.init, apply)


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
