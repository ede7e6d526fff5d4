"""Almost no inner loop: ANIL (Raghu et al. 2020, arXiv:1909.09157)."""

import functools

import jax

from metajax.compose import with_head
from metajax.compose.combinators import features_for, split
from metajax.learners._adaptation import QueryNorm, embedding, fine_tune, query_pass
from metajax.learners._checks import check_episodes, check_padding
from metajax.learners._episodes import episodic_loss, first_support, predict_of
from metajax.losses import check_fits, cross_entropy
from metajax.types import Adapt, Examples, InitHead, Learner, Network


def anil(
  encoder: Network,
  head: Network,
  adapt: Adapt,
  *,
  query_norm: QueryNorm = "transductive",
  init_head: InitHead = lambda params, labels: params,
  chunk_size: int | None = None,
) -> Learner:
  """ANIL: meta-learns features and the initialization of a head; only the head adapts (arXiv:1909.09157).

      minimize over (theta, w)  mean_tasks cross_entropy(head(adapt(w, f_theta(support)), f_theta(query)), labels)

  Each image is embedded once, whatever the number of steps, so a step costs only the head. With the encoder
  `flatten()` and the full network as head this is MAML.

  Args:
    encoder: Inputs `[n, ...]` to features.
    head: Features to logits `[n, ways]`.
    adapt: Inner loop of the head.
    query_norm, chunk_size: As for `maml`.
    init_head: Function `(head's params, support labels) -> head's params` that prepares the head of a task. With
      `zero_init_head` and a linear head of one output, tasks may have any number of ways.

  Returns:
    A Learner of batches of `Episode`s; `predict` returns logits `[n, ways]`.

  Raises:
    TypeError, ValueError: As `maml`; at init, if the head's outputs do not fit the labels.

  Example:
    >>> import jax, jax.numpy as jnp, optax
    >>> from metajax import Episode, Examples, compose, gradient_steps, learners, networks
    >>> learner = learners.anil(networks.mlp((4,), 2), compose.linear(3), gradient_steps(optax.sgd(0.4), steps=5))
    >>> tasks = Examples(jnp.ones((8, 6, 4)), jnp.tile(jnp.eye(3), (8, 2, 1)))  # 8 tasks of 3 ways and 2 shots
    >>> params, state = jax.eval_shape(learner.init, jax.random.key(0), Episode(tasks, tasks))
    >>> jax.eval_shape(learner.predict, params, state, jax.tree.map(lambda x: x[0], tasks), jnp.ones((5, 4))).shape
    (5, 3)
  """
  network = with_head(encoder, head)
  embed_queries = query_pass(encoder, query_norm)
  tune_head = fine_tune(head, adapt, cross_entropy, query_norm, init_head)
  of_encoder = embedding(encoder, query_norm)

  def answer(params, state, support, queries, key=None):
    support_key, query_key, head_key = split(key, 3)
    theta, of_theta = params["encoder"], state["encoder"]
    features, _ = encoder.apply(theta, of_theta, support.inputs, train=True, key=support_key)
    query_features, encoder_state = embed_queries(theta, of_theta, support.inputs, queries, query_key)
    adapted_to = Examples(features_for(state["head"], features, support.inputs), support.labels)
    query_features = features_for(state["head"], query_features, queries)
    logits, head_state, metrics = tune_head(params["head"], state["head"], adapted_to, query_features, head_key)
    return logits, {"encoder": encoder_state, "head": head_state}, metrics

  def embed(params, state, inputs):
    return of_encoder(params["encoder"], state["encoder"], inputs)

  init = functools.partial(_init, network, init_head)
  return Learner(init, episodic_loss(answer, chunk_size=chunk_size), embed, predict_of(answer))


def _init(network, init_head, key, episodes):
  check_episodes(episodes)
  params, state = network.init(key, first_support(episodes))
  check_padding(state, episodes)
  _check_outputs(network, params, state, init_head, episodes)
  return params, state


def _check_outputs(network, params, state, init_head, episodes):
  inputs, labels = first_support(episodes), episodes.support.labels[0]
  whole = {**params, "head": init_head(params["head"], labels)}
  check_fits(jax.eval_shape(lambda: network.apply(whole, state, inputs, train=True)[0]), labels)
