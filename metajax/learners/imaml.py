"""MAML with implicit gradients: iMAML (Rajeswaran et al. 2019, arXiv:1909.04630)."""

import optax

from metajax.adapt import implicit
from metajax.learners._adaptation import QueryNorm
from metajax.learners.maml import maml
from metajax.losses import cross_entropy
from metajax.types import InitHead, Learner, LossOfOutputs, Network


def imaml(
  network: Network,
  optimizer: optax.GradientTransformation,
  steps: int = 16,
  *,
  proximal_strength: float = 2.0,
  cg_steps: int = 5,
  damping: float = 1.0,
  loss: LossOfOutputs = cross_entropy,
  inner_loss: LossOfOutputs | None = None,
  encoder: Network | None = None,
  query_norm: QueryNorm = "transductive",
  init_head: InitHead = lambda params, labels: params,
  chunk_size: int | None = None,
) -> Learner:
  """Learns an initialization to which the solution of a new task is pulled:

      minimize over theta  mean_tasks L_query(phi(theta))
      phi(theta) = argmin_p  L_support(p) + lambda / 2 |p - theta|^2

  by the gradient of the solution, `lambda (H + lambda)^-1 grad L_query(phi)` with the Hessian
  `H` of `L_support` at `phi`, whatever the path to it: memory does not grow with the number of steps. Steps that are
  few, or conjugate gradients that are, make the gradient an approximation, and so does damping.

  Args:
    network: as for `maml`.
    optimizer: that approaches the solution, e.g. `optax.sgd(0.1)`; of the loss with its pull.
    steps: how many it takes: 16 in the paper at 5 ways of Omniglot, 25 at 20 ways.
    proximal_strength: lambda, above 0.
    cg_steps: of conjugate gradients.
    damping: added to the Hessian in the system only, as the network's is not positive definite.
    loss, inner_loss, encoder, query_norm, init_head, chunk_size: as for `maml`.

  Raises:
    ValueError: if an argument is as `maml` or `adapt.implicit` refuses it.
  """
  adapt = implicit(optimizer, steps, proximal_strength, cg_steps=cg_steps, damping=damping)
  return maml(
    network,
    adapt,
    loss=loss,
    inner_loss=inner_loss,
    encoder=encoder,
    query_norm=query_norm,
    init_head=init_head,
    chunk_size=chunk_size,
  )
