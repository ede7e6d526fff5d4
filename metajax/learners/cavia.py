"""Fast context adaptation: CAVIA (Zintgraf et al. 2019, arXiv:1810.03642)."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from metajax.adapt import only
from metajax.compose.combinators import check_networks
from metajax.learners._adaptation import QueryNorm, embedding
from metajax.learners._checks import check_adapt
from metajax.learners.maml import maml
from metajax.losses import cross_entropy
from metajax.types import Adapt, Array, InitHead, Learner, LossOfOutputs, Network, Params


def cavia(
  network: Network,
  context: int,
  adapt: Adapt,
  *,
  loss: LossOfOutputs = cross_entropy,
  inner_loss: LossOfOutputs | None = None,
  encoder: Network | None = None,
  query_norm: QueryNorm = "transductive",
  init_head: InitHead = lambda params, labels: params,
  chunk_size: int | None = None,
) -> Learner:
  """Learns a network to which a new task is told by a context vector, which alone is adapted, from zeros:

      minimize over theta  mean_tasks L_query(theta, c),   c = adapt(L_support(theta, .), 0)

  by the gradient through `adapt`. What is learned of a task is a few numbers, however large the network, so the inner
  loop hardly overfits, and its rate matters little: theta sets how much a number does. With a context of 0 numbers it
  is the network alone. A classifier's outputs are the same in every task, so it serves as many ways as it was trained
  at, or, with `init_head=slice_head`, fewer.

  Args:
    network: of inputs `[n, ...]` and a context `[context]` to outputs, made by `compose.concat_context` or
      `compose.film`: `concat_context(mlp((40, 40), 1))`.
    context: how many numbers the context has, at least 0.
    adapt: the inner loop, of the context: e.g. `gradient_steps(optax.sgd(1.0), 1)`.
    loss, inner_loss, query_norm, init_head, chunk_size: as for `maml`.
    encoder: where `network` is `with_head(encoder, head)`: `embed` then gives the encoder's features. The embedding is
      in the context of zeros.

  Raises:
    TypeError: as `maml`.
    ValueError: if `context` is no whole number of at least 0, or an argument is as `maml` refuses it.
  """
  check_networks(network=network)
  check_adapt(adapt)
  if isinstance(context, bool) or not isinstance(context, int) or context < 0:
    raise ValueError(f"expected a context of at least 0 numbers, got {context!r}")
  nothing = functools.partial(_nothing, context)

  def apply(params, state, inputs, *, train, key=None):
    return network.apply(params["network"], state, inputs, params["context"], train=train, key=key)

  learner = maml(
    Network(lambda key, inputs: network.init(key, inputs, jnp.zeros(context)), apply),
    only("context", adapt),
    loss=loss,
    inner_loss=inner_loss,
    query_norm=query_norm,
    init_head=lambda params, labels: {"network": init_head(params, labels), "context": nothing(params)},
    chunk_size=chunk_size,
  )
  embed_alone = embedding(_without_context(network if encoder is None else encoder, nothing), query_norm)

  def embed(params, state, inputs):
    if encoder is None:
      return embed_alone(params, state, inputs)
    return embed_alone(params["encoder"], state["encoder"], inputs)

  return learner._replace(embed=embed)


def _nothing(context: int, params: Params) -> Array:
  """The context that a task starts with, of the params' type."""
  return jnp.zeros(context, jnp.result_type(*jax.tree.leaves(params)))


def _without_context(network: Network, nothing: Callable[[Params], Array]) -> Network:
  """The network in the context that tells it nothing."""

  def apply(params, state, inputs, *, train, key=None):
    return network.apply(params, state, inputs, nothing(params), train=train, key=key)

  return network._replace(apply=apply)
