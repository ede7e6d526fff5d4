"""Implicit MAML: iMAML (Rajeswaran et al. 2019, arXiv:1909.04630)."""

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
  """iMAML: meta-learns a proximal center for tasks, by implicit gradients of their solutions (arXiv:1909.04630).

      minimize over theta  mean_tasks L_query(phi(theta))
      phi(theta) = argmin_p  L_support(p) + lambda / 2 |p - theta|^2

  The meta-gradient is `lambda (H + lambda)^-1 grad L_query(phi)`, with the Hessian `H` of `L_support` at `phi`. It does
  not depend on the path to `phi`, so memory does not grow with the number of steps. It is approximate if the optimizer
  or conjugate gradients takes few steps, and with damping.

  Args:
    network: As for `maml`.
    optimizer: Inner optimizer of the proximal loss, e.g. `optax.sgd(0.1)`.
    steps: Number of its steps: in the paper 16 for 5 ways of Omniglot, 25 for 20 ways.
    proximal_strength: Regularization strength lambda, above 0.
    cg_steps: Number of conjugate-gradient steps.
    damping: Value added to the Hessian in the system only, since a network's Hessian is not positive definite.
    loss, inner_loss, encoder, query_norm, init_head, chunk_size: As for `maml`.

  Returns:
    A Learner of batches of `Episode`s; `predict` returns outputs `[n, ways]`.

  Raises:
    TypeError, ValueError: As `maml` and `adapt.implicit`.

  Example:
    >>> import jax, jax.numpy as jnp, optax
    >>> from metajax import Episode, Examples, learners, networks
    >>> learner = learners.imaml(networks.mlp((4,), 3), optax.sgd(0.1), steps=5)
    >>> tasks = Examples(jnp.ones((8, 6, 4)), jnp.tile(jnp.eye(3), (8, 2, 1)))  # 8 tasks of 3 ways and 2 shots
    >>> params, state = jax.eval_shape(learner.init, jax.random.key(0), Episode(tasks, tasks))
    >>> jax.eval_shape(learner.predict, params, state, jax.tree.map(lambda x: x[0], tasks), jnp.ones((5, 4))).shape
    (5, 3)
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
