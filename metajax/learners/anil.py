"""Almost no inner loop (Raghu et al. 2020, arXiv:1909.09157)."""

import jax

from metajax.compose import with_head
from metajax.compose.combinators import split
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
  """Learns features, and the initialization of a head that alone is adapted to a new task:

      minimize over (theta, w)  mean_tasks cross_entropy(head(adapt(w, f_theta(support)), f_theta(query)), labels)

  Each image is embedded once, whatever the number of steps, so a step costs as little as the head. Where the head is
  the whole network and the encoder `flatten()` it is MAML.

  Args:
    encoder: inputs `[n, ...]` to features.
    head: features to logits `[n, ways]`.
    adapt: the head's inner loop.
    query_norm: what batch norm normalizes the queries with, as in `maml`.
    init_head: `(head's params, support labels) -> head's params` from which a task is adapted. With `zero_init_head`
      and a linear head of one output, any number of ways is tested.
    chunk_size: how many tasks run as one vectorized group.

  Raises:
    TypeError: if a network is no Network, or `adapt` no function.
    ValueError: if `query_norm` is unknown; at init, if the head's outputs do not fit the labels or labels are not
      one-hot.
  """
  network = with_head(encoder, head)
  embed_queries, tune_head = (
    query_pass(encoder, query_norm),
    fine_tune(head, adapt, cross_entropy, query_norm, init_head),
  )
  of_encoder = embedding(encoder, query_norm)

  def init(key, episodes):
    check_episodes(episodes)
    params, state = network.init(key, first_support(episodes))
    check_padding(state, episodes)
    _check_outputs(network, params, state, init_head, episodes)
    return params, state

  def answer(params, state, support, queries, key=None):
    support_key, query_key, head_key = split(key, 3)
    theta, of_theta = params["encoder"], state["encoder"]
    features, _ = encoder.apply(theta, of_theta, support.inputs, train=True, key=support_key)
    query_features, encoder_state = embed_queries(theta, of_theta, support.inputs, queries, query_key)
    known = Examples(features, support.labels)
    logits, head_state, metrics = tune_head(params["head"], state["head"], known, query_features, head_key)
    return logits, {"encoder": encoder_state, "head": head_state}, metrics

  def embed(params, state, inputs):
    return of_encoder(params["encoder"], state["encoder"], inputs)

  return Learner(init, episodic_loss(answer, chunk_size=chunk_size), embed, predict_of(answer))


def _check_outputs(network, params, state, init_head, episodes):
  inputs, labels = first_support(episodes), episodes.support.labels[0]
  whole = {**params, "head": init_head(params["head"], labels)}
  check_fits(jax.eval_shape(lambda: network.apply(whole, state, inputs, train=True)[0]), labels)
