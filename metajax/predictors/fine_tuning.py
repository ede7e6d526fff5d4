"""Predictors that train a head, or the full network, on the support set."""

from collections.abc import Callable

import jax

from metajax import checks
from metajax.compose import linear, perceptron
from metajax.compose.combinators import check_networks
from metajax.losses import cross_entropy
from metajax.types import Adapt, EmbedFn, Examples, Network, PredictFn


def adapted_head(
  embed: EmbedFn, adapt: Adapt, head: Callable[[int], Network] = lambda ways: linear(ways, scale=0.0)
) -> PredictFn:
  """Trains a new head on the frozen embeddings of the support set.

  Args:
    embed: `(params, state, inputs) -> [n, d]`.
    adapt: Inner loop that trains the head on the support's cross-entropy, e.g. `gradient_steps(optax.sgd(0.1), 100)`.
    head: `ways -> Network` from features to logits. The default is `linear` from zeros; `compose.cosine` gives
      Baseline++ (arXiv:1904.04232). Its initialization uses a fixed key, the same in every task.

  Returns:
    A `predict` with logits `[n, ways]`.

  Raises:
    TypeError: if `embed`, `adapt` or `head` is not a function.
    ValueError: when called, if labels are not one-hot `[s, ways]`, or the head has state (batch statistics).
  """
  _check(embed, adapt, head)

  def predict(params, state, support, inputs):
    features, network, fresh, of_head = _fresh(embed, head, params, state, support)

    def loss(fast, known):
      return cross_entropy(network.apply(fast, of_head, known.inputs, train=True)[0], known.labels)

    adapted, _ = adapt(loss, fresh, Examples(features, support.labels))
    return network.apply(adapted, of_head, embed(params, state, inputs), train=False)[0]

  return predict


def perceptron_head(embed: EmbedFn, adapt: Adapt, hidden: int = 0) -> PredictFn:
  """`adapted_head` with a perceptron as the head.

  Args:
    embed, adapt: As for `adapted_head`.
    hidden: Number of hidden units, at least 0; with 0 the head is linear.

  Returns:
    A `predict` with logits `[n, ways]`.

  Raises:
    TypeError, ValueError: as for `adapted_head`, and if `hidden` is not an integer of at least 0.
  """
  checks.count("hidden", hidden, 0)
  return adapted_head(embed, adapt, lambda ways: perceptron(hidden, ways))


def fine_tuned(
  embed: EmbedFn, adapt: Adapt, head: Callable[[int], Network] = lambda ways: linear(ways, scale=0.0)
) -> PredictFn:
  """Trains a new head and the embedding together on the support set.

  The state does not change: batch norm keeps the running statistics of pretraining.

  Args:
    embed: `(params, state, inputs) -> [n, d]`, differentiable in params.
    adapt: Inner loop that trains all parameters on the support's cross-entropy. The parameters have two parts,
      "embedding" and "head": `chain(only("head", ...), ...)` trains the head first.
    head: As for `adapted_head`.

  Returns:
    A `predict` with logits `[n, ways]`.

  Raises:
    TypeError, ValueError: as for `adapted_head`.
  """
  _check(embed, adapt, head)

  def predict(params, state, support, inputs):
    _, network, fresh, of_head = _fresh(embed, head, params, state, support)

    def logits(fast, inputs):
      return network.apply(fast["head"], of_head, embed(fast["embedding"], state, inputs), train=True)[0]

    def loss(fast, known):
      return cross_entropy(logits(fast, known.inputs), known.labels)

    adapted, _ = adapt(loss, {"embedding": params, "head": fresh}, support)
    return logits(adapted, inputs)

  return predict


def _check(embed, adapt, head):
  checks.function("embed", embed, "(params, state, inputs) -> [n, d]")
  checks.function("adapt", adapt, "such as gradient_steps(optax.sgd(0.1), 100)")
  checks.function("head", head, "ways -> Network, such as linear")


def _fresh(embed, head, params, state, support):
  """Returns the support's features, and a new head with its params and state, which must be empty."""
  checks.one_hot("support labels", support.labels, 2)
  features, network = embed(params, state, support.inputs), head(support.labels.shape[-1])
  check_networks(head=network)
  fresh, of_head = network.init(jax.random.key(0), features)
  if jax.tree.leaves(of_head):
    raise ValueError("expected a head without state (batch statistics): it is adapted to one support set")
  return features, network, fresh, of_head
