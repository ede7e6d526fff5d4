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
from metajax.types import Adapt, Array, EmbedFn, InitHead, Learner, LossOfOutputs, Network, Params


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
  """CAVIA: learns a network conditioned on a context vector; only the context is adapted per task (arXiv:1810.03642).

      minimize over theta  mean_tasks L_query(theta, c),   c = adapt(L_support(theta, .), 0)

  The gradient passes through `adapt`. A task is a few numbers, however large the network, so the inner loop hardly
  overfits, and its learning rate matters little: theta sets the scale of the context. With `context=0` this is the
  network alone. A classifier serves as many ways as it was trained at or, with `init_head=slice_head`, fewer.

  Args:
    network: Inputs `[n, ...]` and a context `[context]` to outputs, made by `compose.concat_context` or `compose.film`,
      e.g. `concat_context(mlp((40, 40), 1))`.
    context: Size of the context vector, at least 0.
    adapt: Inner loop of the context, which starts at zeros, e.g. `gradient_steps(optax.sgd(1.0), 1)`.
    loss, inner_loss, encoder, query_norm, init_head, chunk_size: As for `maml`; `embed` uses the zero context.

  Returns:
    A Learner of batches of `Episode`s; `predict` returns outputs `[n, ways]`.

  Raises:
    TypeError, ValueError: As `maml`, or if `context` is not a whole number of at least 0.

  Example:
    >>> import jax, jax.numpy as jnp, optax
    >>> from metajax import Episode, Examples, compose, gradient_steps, learners, networks
    >>> network = compose.concat_context(networks.mlp((4,), 3))
    >>> learner = learners.cavia(network, context=2, adapt=gradient_steps(optax.sgd(1.0), steps=1))
    >>> tasks = Examples(jnp.ones((8, 6, 4)), jnp.tile(jnp.eye(3), (8, 2, 1)))  # 8 tasks of 3 ways and 2 shots
    >>> params, state = jax.eval_shape(learner.init, jax.random.key(0), Episode(tasks, tasks))
    >>> jax.eval_shape(learner.predict, params, state, jax.tree.map(lambda x: x[0], tasks), jnp.ones((5, 4))).shape
    (5, 3)
  """
  check_networks(network=network)
  check_adapt(adapt)
  _check_context(context)
  nothing = functools.partial(_nothing, context)
  learner = maml(
    _with_context(network, context),
    only("context", adapt),
    loss=loss,
    inner_loss=inner_loss,
    query_norm=query_norm,
    init_head=lambda params, labels: {"network": init_head(params, labels), "context": nothing(params)},
    chunk_size=chunk_size,
  )
  embed_alone = embedding(_without_context(network if encoder is None else encoder, nothing), query_norm)
  return learner._replace(embed=functools.partial(_embed, embed_alone, encoder is not None))


def _check_context(context):
  if isinstance(context, bool) or not isinstance(context, int) or context < 0:
    raise ValueError(f"expected a context of at least 0 numbers, got {context!r}")


def _with_context(network: Network, context: int) -> Network:
  """The network with params `{"network": ..., "context": [context]}`, initialized without the context."""

  def apply(params, state, inputs, *, train, key=None):
    return network.apply(params["network"], state, inputs, params["context"], train=train, key=key)

  return Network(lambda key, inputs: network.init(key, inputs, jnp.zeros(context)), apply)


def _embed(embed_alone: EmbedFn, of_encoder: bool, params, state, inputs) -> Array:
  """The embedding by the full network, or by its encoder."""
  if not of_encoder:
    return embed_alone(params, state, inputs)
  return embed_alone(params["encoder"], state["encoder"], inputs)


def _nothing(context: int, params: Params) -> Array:
  """The zero context that a task starts with, of the params' dtype."""
  return jnp.zeros(context, jnp.result_type(*jax.tree.leaves(params)))


def _without_context(network: Network, nothing: Callable[[Params], Array]) -> Network:
  """The network in the zero context."""

  def apply(params, state, inputs, *, train, key=None):
    return network.apply(params, state, inputs, nothing(params), train=train, key=key)

  return network._replace(apply=apply)
