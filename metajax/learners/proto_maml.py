"""Proto-MAML: MAML with a prototype-initialized head (Triantafillou et al. 2020, arXiv:1903.03096)."""

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
  """Proto-MAML: MAML whose head is initialized with class prototypes (arXiv:1903.03096).

      logits(x) = W f(x) + b,   W_k = 2 c_k,   b_k = -|c_k|^2,   c_k = mean_{support of k} f

  The initial logits are `-|f(x) - c_k|^2` up to a term common to all ways; `adapt` then tunes embedding and head on the
  support set. The gradient passes through the prototypes. Any number of ways and shots; a way without support is never
  predicted.

  Args:
    encoder: Inputs `[n, ...]` to embeddings `[n, d]`.
    adapt: Inner loop of params `{"encoder": ..., "head": {"weight": [d, ways], "bias": [ways]}}`. With
      `only("head", ...)` the encoder is not adapted.
    query_norm, chunk_size: As for `maml`.

  Returns:
    A Learner of batches of `Episode`s; `predict` returns logits `[n, ways]`.

  Raises:
    TypeError: If `encoder` is not a Network, or `adapt` not a function.
    ValueError: If `query_norm` is unknown; at init, if the encoder's outputs are not `[n, d]` or labels are not
      one-hot.

  Example:
    >>> import jax, jax.numpy as jnp, optax
    >>> from metajax import Episode, Examples, gradient_steps, learners, networks
    >>> learner = learners.proto_maml(networks.mlp((4,), 2), gradient_steps(optax.sgd(0.1), steps=5))
    >>> tasks = Examples(jnp.ones((8, 6, 4)), jnp.tile(jnp.eye(3), (8, 2, 1)))  # 8 tasks of 3 ways and 2 shots
    >>> params, state = jax.eval_shape(learner.init, jax.random.key(0), Episode(tasks, tasks))
    >>> jax.eval_shape(learner.predict, params, state, jax.tree.map(lambda x: x[0], tasks), jnp.ones((5, 4))).shape
    (5, 3)
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
  """The linear head whose logits equal minus the squared distances to prototypes `[ways, d]`, up to a common term."""
  return {"weight": 2 * prototypes.T, "bias": without_empty_ways(-jnp.square(prototypes).sum(-1), labels)}
