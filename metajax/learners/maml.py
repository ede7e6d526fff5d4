"""Model-agnostic meta-learning: MAML (Finn et al. 2017, arXiv:1703.03400)."""

from metajax.learners._adaptation import QueryNorm, fine_tune, of_whole_network
from metajax.learners._episodes import episodic_loss, predict_of
from metajax.losses import cross_entropy
from metajax.types import Adapt, InitHead, Learner, LossOfOutputs, Network


def maml(
  network: Network,
  adapt: Adapt,
  *,
  loss: LossOfOutputs = cross_entropy,
  inner_loss: LossOfOutputs | None = None,
  encoder: Network | None = None,
  query_norm: QueryNorm = "transductive",
  init_head: InitHead = lambda params, labels: params,
  chunk_size: int | None = None,
) -> Learner:
  """MAML: meta-learns an initialization for gradient-based adaptation (arXiv:1703.03400).

      minimize over params  mean_tasks loss(network(adapt(params, support), query inputs), query labels)

  The gradient passes through `adapt`; with `gradient_steps(..., gradient="first_order")` this is FOMAML. For more steps
  at test time, call the factory with another `adapt` and keep the params.

  Args:
    network: Inputs `[n, ...]` to logits `[n, ways]`, or to `[n, outputs]` for regression.
    adapt: Inner loop, e.g. `gradient_steps(optax.sgd(0.4), 5)`.
    loss: Query loss, `(outputs, labels) -> scalar`; `squared_error` for regression.
    inner_loss: Support loss; `loss` by default.
    encoder: Encoder of `network`, if that is `with_head(encoder, head)`; `embed` then returns its features rather than
      the network's outputs.
    query_norm: Batch statistics that normalize the queries: "transductive" uses those of the queries, as in the paper;
      "support" uses those of the support set, so that one prediction does not depend on other queries. The support set
      is always normalized by its statistics. The value may differ at test time.
    init_head: Function `(params, support labels) -> params` that prepares the params of a task. With `zero_init_head`
      and a linear head of one output, tasks may have any number of ways.
    chunk_size: Number of tasks per vectorized group.

  Returns:
    A Learner of batches of `Episode`s; `predict` returns outputs `[n, ways]` of the queries.

  Raises:
    TypeError: If a network is not a Network, or `adapt`, a loss or `init_head` not a function.
    ValueError: If `query_norm` is unknown; at init, if the network's outputs do not fit the labels or labels are not
      one-hot.

  Example:
    >>> import jax, jax.numpy as jnp, optax
    >>> from metajax import Episode, Examples, gradient_steps, learners, networks
    >>> learner = learners.maml(networks.mlp((4,), 3), gradient_steps(optax.sgd(0.4), steps=5))
    >>> tasks = Examples(jnp.ones((8, 6, 4)), jnp.tile(jnp.eye(3), (8, 2, 1)))  # 8 tasks of 3 ways and 2 shots
    >>> params, state = jax.eval_shape(learner.init, jax.random.key(0), Episode(tasks, tasks))
    >>> jax.eval_shape(learner.predict, params, state, jax.tree.map(lambda x: x[0], tasks), jnp.ones((5, 4))).shape
    (5, 3)
  """
  inner = loss if inner_loss is None else inner_loss
  init, embed = of_whole_network(network, (loss, inner), encoder, query_norm, init_head)
  answer = fine_tune(network, adapt, inner, query_norm, init_head, loss)
  return Learner(init, episodic_loss(answer, loss, chunk_size), embed, predict_of(answer))
