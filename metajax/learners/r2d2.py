"""Ridge regression as a differentiable closed-form head: R2-D2 (Bertinetto et al. 2019, arXiv:1805.08136)."""

import jax.numpy as jnp

from metajax import checks
from metajax.compose.combinators import check_networks, split
from metajax.learners._adaptation import QueryNorm, embedding, query_pass
from metajax.learners._episodes import episodic_loss, init_embedding, predict_of
from metajax.predictors import ridge_logits
from metajax.types import Learner, Network


def r2d2(
  network: Network,
  *,
  query_norm: QueryNorm = "transductive",
  l2: float = 1.0,
  scale: float = 10.0,
  chunk_size: int | None = None,
) -> Learner:
  """Learns an embedding in which ridge regression from few examples to their one-hot labels tells classes apart:

      W = (X' X + l2 I)^-1 X' Y,   logits(x) = scale * f(x) W

  with `X = f(support)`, solved in closed form, of the support's or of the embedding's size, whichever is smaller.
  Strength and scale are learned with the embedding, as logarithms. The paper's additive constant is left out: no loss
  or prediction depends on it. Any number of ways and shots.

  Args:
    network: inputs `[n, ...]` to embeddings `[n, d]`.
    query_norm: what batch norm normalizes the queries with: "transductive", with the statistics of the queries, or
      "support", with those of the support set. It may be another at test time.
    l2: of the ridge penalty, where it starts.
    scale: of the logits, where it starts.
    chunk_size: how many tasks run as one vectorized group.

  Raises:
    TypeError: if it is no Network.
    ValueError: if `query_norm` is unknown, `l2` or `scale` not above 0; at init, if labels are not one-hot or the
      network's outputs are not `[n, d]`.
  """
  check_networks(network=network)
  _check(l2=l2, scale=scale)
  embed_queries, embed_alone = query_pass(network, query_norm), embedding(network, query_norm)

  def init(key, episodes):
    params, state = init_embedding(network, key, episodes)
    logs = {"log_l2": jnp.log(l2), "log_scale": jnp.log(scale)}
    return {"encoder": params, **logs}, state

  def answer(params, state, support, queries, key=None):
    support_key, query_key = split(key, 2)
    known, _ = network.apply(params["encoder"], state, support.inputs, train=True, key=support_key)
    asked, state = embed_queries(params["encoder"], state, support.inputs, queries, query_key)
    found = ridge_logits(known, support.labels, asked, jnp.exp(params["log_l2"]))
    return jnp.exp(params["log_scale"]) * found, state, {}

  def embed(params, state, inputs):
    return embed_alone(params["encoder"], state, inputs)

  return Learner(init, episodic_loss(answer, chunk_size=chunk_size), embed, predict_of(answer))


def _check(**values):
  for name, value in values.items():
    checks.scalar(f"a {name}", value)
    checks.positive(f"a {name}", value)
