"""What learners that compare a query's embedding with the support's share: an encoder, and a head that compares."""

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
  """A Learner of an embedding and of a way to compare: `logits = head(f(support), labels, f(query))`.

  A network with batch norm is trained on the statistics of support and query together and predicts with its running
  statistics, so the prediction is inductive: one query does not depend on the others.

  Args:
    network: `f`, inputs `[n, ...]` to embeddings `[n, d]`, or to whatever the head compares.
    head: `(f(support), one-hot labels [s, ways], f(query)) -> logits [n, ways]`.
    loss: `(logits, labels) -> scalar`, in which an all-zero row of labels weighs nothing.
    chunk_size: how many tasks run as one vectorized group.

  Raises:
    TypeError: if it is no Network.
    ValueError: at init, if labels are not one-hot, rows are padded and the network keeps batch statistics, or the head
      refuses the embeddings.
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
    shots = len(support.labels)
    known, asked = (jax.tree.map(part, embedded) for part in (lambda x: x[:shots], lambda x: x[shots:]))
    logits, of_head = head.apply(params["head"], state["head"], known, support.labels, asked, train=True, key=head_key)
    return logits, {"encoder": of_encoder, "head": of_head}, {}

  def embedded(params, state, inputs):
    return network.apply(params["encoder"], state["encoder"], inputs, train=False)[0]

  def embed(params, state, inputs):
    features = embedded(params, state, inputs)
    return features.reshape(len(features), -1)

  def predict(params, state, support, inputs):
    known, asked = embedded(params, state, support.inputs), embedded(params, state, inputs)
    return head.apply(params["head"], state["head"], known, support.labels, asked, train=False)[0]

  return Learner(init, episodic_loss(answer, loss, chunk_size, classifies=True), embed, predict)


def without_parameters(compare: Callable[[Array, Array, Array], Array]) -> Network:
  """The head `compare(support, labels, queries)`, of embeddings `[n, d]`, that has nothing to learn.

  Raises:
    ValueError: at init, if the embeddings are not rows.
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
  """The embeddings `[n, d]` of each of several inputs `[n, ...]`, by one training pass over all of them.

  Row `i` of one stands beside row `i` of the others, not after all of them, so that rows stay where they are on a mesh.
  """
  rows = jax.tree.map(lambda *x: jnp.stack(x, 1).reshape(-1, *x[0].shape[1:]), *parts)
  embedded, state = network.apply(params, state, rows, train=True, key=key)
  return [embedded[i :: len(parts)] for i in range(len(parts))], state
