"""Model-agnostic meta-learning (Finn et al. 2017, arXiv:1703.03400)."""

from collections.abc import Callable

import jax

from metajax.learners.episodic import check_episodes, check_padding, episodic_loss, first_support
from metajax.losses import cross_entropy
from metajax.types import Adapt, Learner, Network


def maml(
  network: Network,
  adapt: Adapt,
  *,
  loss: Callable = cross_entropy,
  inner_loss: Callable | None = None,
  encoder: Network | None = None,
  at_once: int | None = None,
) -> Learner:
  """Learns an initialisation from which `adapt` learns a new task:

      minimise over params  mean_tasks loss(network(adapt(params, support), query inputs), query labels)

  by the gradient through `adapt`. With `gradient_steps(..., gradient="first_order")` it is FOMAML. More steps at test
  time: the same factory with another `adapt`, the same params. Batch statistics are transductive, as in the paper:
  every pass, at test time too, normalises with the statistics of its own batch.

  Args:
    network: inputs `[n, ...]` to logits `[n, ways]`, or to `[n, outputs]` for a regression.
    adapt: the inner loop, e.g. `gradient_steps(optax.sgd(0.4), 5)`.
    loss: of the query, `(outputs, labels) -> scalar`; `squared_error` for a regression.
    inner_loss: of the support; the same by default.
    encoder: where `network` is `with_head(encoder, head)`: `embed` then gives the encoder's features rather than the
      network's outputs.
    at_once: how many tasks run as one vectorised group.

  Raises:
    ValueError: at init, if the network's outputs do not fit the labels or labels are not one-hot.
  """
  inner = loss if inner_loss is None else inner_loss

  def fast_weights(params, state, support, key):
    def support_loss(params, support):
      return inner(network.apply(params, state, support.inputs, train=True, key=key)[0], support.labels)

    return adapt(support_loss, params, support)

  def init(key, episodes):
    if loss is cross_entropy:
      check_episodes(episodes)
    inputs = first_support(episodes)
    params, state = network.init(key, inputs)
    if loss is cross_entropy:
      check_padding(state, episodes)
    outputs, _ = jax.eval_shape(lambda: network.apply(params, state, inputs, train=True))
    jax.eval_shape(inner, outputs, episodes.support.labels[0])
    return params, state

  def run(params, state, episode, key):
    support_key, query_key = jax.random.split(key)
    adapted, path = fast_weights(params, state, episode.support, support_key)
    outputs, state = network.apply(adapted, state, episode.query.inputs, train=True, key=query_key)
    return outputs, state, {"support_loss": path[0]}

  def embed(params, state, inputs):
    if encoder is None:
      return network.apply(params, state, inputs, train=True)[0]
    return encoder.apply(params["encoder"], state["encoder"], inputs, train=True)[0]

  def predict(params, state, support, inputs):
    adapted, _ = fast_weights(params, state, support, None)
    return network.apply(adapted, state, inputs, train=True)[0]

  return Learner(init, episodic_loss(run, loss, at_once), embed, predict)
