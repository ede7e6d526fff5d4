"""Shared parts of learners with an inner loop: adaptation, and the query pass with its normalization."""

import functools
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp

from metajax import checks
from metajax.compose.combinators import check_networks, split
from metajax.learners._checks import check_adapt, check_episodes, check_padding
from metajax.learners._episodes import Answer, first_support
from metajax.losses import cross_entropy
from metajax.predictors.logits import with_ways
from metajax.tree import is_floating
from metajax.types import (
  Adapt,
  Data,
  EmbedFn,
  Examples,
  InitFn,
  InitHead,
  Inputs,
  Key,
  LossFn,
  LossOfOutputs,
  Network,
  Params,
  Path,
  State,
)

QueryNorm = Literal["transductive", "support"]
QueryPass = Callable[[Params, State, Inputs, Inputs, Key | None], tuple[Any, State]]


def query_pass(network: Network, query_norm: QueryNorm) -> QueryPass:
  """The normalized query pass: `(params, state, support, queries, key) -> (query outputs, state)`.

  - "transductive": queries are normalized by their joint statistics, so one prediction depends on the other queries.
  - "support": queries are normalized by the statistics of the support set, from a pass over it with the same params.

  For a network without state (no normalization, layer norm, group norm) both are the same. With state, "support"
  assumes that the state holds running averages in 32 bits, as batch norm's are, and draws no dropout in the queries.
  """
  checks.choice("query_norm", query_norm, QueryNorm)

  def run(params, state, support, queries, key):
    if query_norm == "transductive" or not jax.tree.leaves(state):
      return network.apply(params, state, queries, train=True, key=key)
    running = network.apply(params, state, support, train=True, key=key)[1]
    own = statistics_of_pass(network, params, state, support)
    return network.apply(params, own, queries, train=False, key=key)[0], running

  return run


def statistics_of_pass(network: Network, params: Params, state: State, inputs: Inputs) -> State:
  """The state of a network that has only seen `inputs`: the batch statistics of one pass.

  A running average with decay `m` becomes `m * old + (1 - m) * statistics`; from zeros this is `(1 - m) * statistics`,
  and its derivative by the old value is `m`. Leaves that are not floating, or that a pass leaves unchanged (`m = 1`),
  stay unchanged.
  """
  leaves, structure = jax.tree.flatten(state)
  averages = [x for x in leaves if is_floating(x)]

  def with_averages(given):
    rest = iter(given)
    return structure.unflatten([next(rest) if is_floating(x) else x for x in leaves])

  def after(averages):
    updated = structure.flatten_up_to(network.apply(params, with_averages(averages), inputs, train=True)[1])
    return [x for x in updated if is_floating(x)]

  zeros, ones = [jnp.zeros_like(x) for x in averages], [jnp.ones_like(x) for x in averages]
  from_zeros, kept = jax.jvp(after, (zeros,), (ones,))
  return with_averages(
    jnp.where(m == 1, old, x / jnp.where(m == 1, 1, 1 - m))
    for x, m, old in zip(from_zeros, kept, averages, strict=True)
  )


def inner_problem(
  network: Network, loss: LossOfOutputs, state: State, support: Examples, key: Key | None
) -> tuple[LossFn, Data]:
  """The loss and data of an Adapt: `loss(outputs, labels)` of the support set, normalized by its batch statistics, and
  the support set or, with a key, `(support, key)`, so that each step draws different noise.

  In a cross-entropy, ways without support have the logit -1e9, so that padded ways change nothing.
  """
  masked = mask_ways(loss, support)

  def support_loss(params, data):
    shown, own = (data, None) if key is None else data
    outputs = network.apply(params, state, shown.inputs, train=True, key=own)[0]
    return loss(masked(outputs), shown.labels)

  return support_loss, support if key is None else (support, key)


def mask_ways(loss: LossOfOutputs, support: Examples) -> Callable[[Any], Any]:
  """A function of outputs: for a cross-entropy the logits of ways without support become -1e9, else nothing changes.

  Outputs of another number of ways are left to the loss, which refuses them by name.
  """
  if loss is not cross_entropy:
    return lambda outputs: outputs
  there = jnp.any(support.labels != 0, 0)
  return lambda outputs: with_ways(outputs, there) if outputs.shape[-1:] == there.shape else outputs


def check_path(path: Path):
  """Raises unless the path of an Adapt is the loss at each step.

  Raises:
    ValueError: If the path is a trajectory of parameters.
  """
  if not isinstance(path, jax.Array) or path.ndim != 1:
    raise ValueError("expected an Adapt whose path is the loss at each step, got a trajectory of parameters")


def step_keys(key: Key | None, steps: int) -> Key | None:
  """One key per step of an inner loop, `[steps]`: `fold_in(key, step)`."""
  return None if key is None else jax.vmap(functools.partial(jax.random.fold_in, key))(jnp.arange(steps))


def fine_tune(
  network: Network,
  adapt: Adapt,
  loss: LossOfOutputs,
  query_norm: QueryNorm,
  init_head: InitHead = lambda params, labels: params,
  task_loss: LossOfOutputs = cross_entropy,
) -> Answer:
  """Adapts `init_head(params, labels)` to the support set, then passes the queries.

  Args:
    network, adapt, query_norm, init_head: As for `maml`.
    loss: Support loss, `(outputs, labels) -> scalar`.
    task_loss: Loss of the queries; if a cross-entropy, their logits are -1e9 for a way without support.

  Returns:
    An `Answer`, whose metrics hold the "support_loss" before the first step.
  """
  check_adapt(adapt)
  pass_queries = query_pass(network, query_norm)

  def adapt_and_answer(params, state, support, queries, key=None):
    support_key, query_key = split(key, 2)
    support_loss, data = inner_problem(network, loss, state, support, support_key)
    adapted, path = adapt(support_loss, init_head(params, support.labels), data)
    check_path(path)
    outputs, after = pass_queries(adapted, state, support.inputs, queries, query_key)
    return mask_ways(task_loss, support)(outputs), after, {"support_loss": path[0]}

  return adapt_and_answer


def of_whole_network(
  network: Network,
  losses: tuple[LossOfOutputs, LossOfOutputs],
  encoder: Network | None,
  query_norm: QueryNorm,
  init_head: InitHead,
) -> tuple[InitFn, EmbedFn]:
  """`init` and `embed` of a Learner that adapts all parameters of a network from `init_head(params, labels)`.

  Args:
    network: Network to adapt.
    losses: Task loss and inner loss; with cross-entropy as the task loss, the episodes are checked.
    encoder: Part of `with_head(encoder, head)` that embeds; None for the outputs of the network.
    query_norm, init_head: As for `maml`.
  """
  check_networks(network=network)
  if encoder is not None:
    check_networks(encoder=encoder)
  for loss in losses:
    checks.function("loss", loss, "(outputs, labels) -> scalar")
  checks.function("init_head", init_head, "(params, labels) -> params")
  embed_whole = embedding(network, query_norm)
  embed_part = None if encoder is None else embedding(encoder, query_norm)

  def init(key, episodes):
    classifies = losses[0] is cross_entropy
    if classifies:
      check_episodes(episodes)
    inputs, labels = first_support(episodes), episodes.support.labels[0]
    params, state = network.init(key, inputs)
    if classifies:
      check_padding(state, episodes)
    outputs = jax.eval_shape(lambda: network.apply(init_head(params, labels), state, inputs, train=True)[0])
    for loss in losses:
      jax.eval_shape(loss, outputs, labels)
    return params, state

  def embed(params, state, inputs):
    if embed_part is None:
      return embed_whole(params, state, inputs)
    return embed_part(params["encoder"], state["encoder"], inputs)

  return init, embed


def embedding(network: Network, query_norm: QueryNorm) -> EmbedFn:
  """`(params, state, inputs) -> features`, normalized by the statistics of the inputs under "transductive", and by the
  running statistics under "support".
  """

  def embed(params, state, inputs):
    return network.apply(params, state, inputs, train=query_norm == "transductive")[0]

  return embed
