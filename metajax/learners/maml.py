"""Model-agnostic meta-learning (Finn et al. 2017, arXiv:1703.03400)."""

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
  """Learns an initialization from which `adapt` learns a new task:

      minimize over params  mean_tasks loss(network(adapt(params, support), query inputs), query labels)

  by the gradient through `adapt`. With `gradient_steps(..., gradient="first_order")` it is FOMAML. More steps at test
  time: the same factory with another `adapt`, the same params.

  Args:
    network: inputs `[n, ...]` to logits `[n, ways]`, or to `[n, outputs]` for a regression.
    adapt: the inner loop, e.g. `gradient_steps(optax.sgd(0.4), 5)`.
    loss: of the query, `(outputs, labels) -> scalar`; `squared_error` for a regression.
    inner_loss: of the support; the same by default.
    encoder: where `network` is `with_head(encoder, head)`: `embed` then gives the encoder's features rather than the
      network's outputs.
    query_norm: what batch norm normalizes the queries with: "transductive", as in the paper, with the statistics of the
      queries, or "support", with those of the support set, so that the answer to a query depends on no other. The
      support set always has its own. It may be another at test time.
    init_head: `(params, support labels) -> params` from which a task is adapted. With `zero_init_head` and a linear
      head of one output, any number of ways is tested.
    chunk_size: how many tasks run as one vectorized group.

  Raises:
    TypeError: if a network is no Network, or `adapt`, a loss or `init_head` no function.
    ValueError: if `query_norm` is unknown; at init, if the network's outputs do not fit the labels or labels are not
      one-hot.
  """
  inner = loss if inner_loss is None else inner_loss
  init, embed = of_whole_network(network, (loss, inner), encoder, query_norm, init_head)
  answer = fine_tune(network, adapt, inner, query_norm, init_head)
  return Learner(init, episodic_loss(answer, loss, chunk_size), embed, predict_of(answer))
