"""R2-D2: ridge regression as a differentiable closed-form head (Bertinetto et al. 2019, arXiv:1805.08136)."""

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
  """R2-D2: learns an embedding for classification by closed-form ridge regression (arXiv:1805.08136).

      W = (X' X + l2 I)^-1 X' Y,   logits(x) = scale * f(x) W

  `X = f(support)`, `Y` are one-hot labels; the system has the smaller of the support's and the embedding's size. `l2`
  and `scale` are learned, as logarithms. The paper's additive constant is omitted: no loss or prediction depends on it.
  Any number of ways and shots.

  Args:
    network: Inputs `[n, ...]` to embeddings `[n, d]`.
    query_norm, chunk_size: As for `maml`.
    l2: Initial strength of the ridge penalty.
    scale: Initial factor of the logits.

  Returns:
    A Learner of batches of `Episode`s; `predict` returns logits `[n, ways]`.

  Raises:
    TypeError: If `network` is not a Network.
    ValueError: If `query_norm` is unknown, `l2` or `scale` not above 0; at init, if labels are not one-hot or the
      network's outputs are not `[n, d]`.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> from metajax import Episode, Examples, learners, networks
    >>> learner = learners.r2d2(networks.mlp((4,), 2))
    >>> tasks = Examples(jnp.ones((8, 6, 4)), jnp.tile(jnp.eye(3), (8, 2, 1)))  # 8 tasks of 3 ways and 2 shots
    >>> params, state = jax.eval_shape(learner.init, jax.random.key(0), Episode(tasks, tasks))
    >>> jax.eval_shape(learner.predict, params, state, jax.tree.map(lambda x: x[0], tasks), jnp.ones((5, 4))).shape
    (5, 3)
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
    support_features, _ = network.apply(params["encoder"], state, support.inputs, train=True, key=support_key)
    query_features, state = embed_queries(params["encoder"], state, support.inputs, queries, query_key)
    found = ridge_logits(support_features, support.labels, query_features, jnp.exp(params["log_l2"]))
    return jnp.exp(params["log_scale"]) * found, state, {}

  def embed(params, state, inputs):
    return embed_alone(params["encoder"], state, inputs)

  return Learner(init, episodic_loss(answer, chunk_size=chunk_size), embed, predict_of(answer))


def _check(**values):
  for name, value in values.items():
    checks.scalar(f"a {name}", value)
    checks.positive(f"a {name}", value)
