"""Flags of the inner loop: the algorithm that adapts to a task, through which the meta-gradient passes."""

from typing import Annotated, Literal, NamedTuple

import optax

from metajax import gradient_steps
from metajax.adapt import Gradient, newton
from metajax.experiment.bounds import Positive, Steps
from metajax.experiment.former_flags import also
from metajax.types import Adapt

InnerOptimizer = Literal["sgd", "momentum", "adam", "rmsprop", "newton"]
DAMPING = 1.0  # the Hessian of a network is indefinite; conjugate gradients need it positive


class InnerLoop(NamedTuple):
  """Adaptation to a task."""

  inner_learning_rate: Annotated[Positive, *also("--inner-rate")] = 0.1
  """Learning rate of the inner loop, on the mean loss over the support set."""
  inner_steps: Steps = 1
  """Inner-loop steps in training."""
  test_inner_steps: Steps = 1
  """Inner-loop steps in validation and test."""
  inner_optimizer: InnerOptimizer = "sgd"
  """Optimizer of the inner loop; momentum is 0.9, newton is damped by 1 and solved by conjugate gradients."""

  def adapt(self, steps: int, rate: float | None = None, gradient: Gradient = "mixed") -> Adapt:
    """The inner loop with a number of steps, and a learning rate other than that of training if one is given.

    Adam and RMSProp get an epsilon within the root, without which their updates have no bounded derivative at a zero
    gradient; it is the square of the learning rate, so that an update changes about as fast as the gradient.

    Raises:
      ValueError: for Newton's method without second derivatives.
    """
    if self.inner_optimizer == "newton":
      if gradient == "first_order":
        raise ValueError("expected --inner-optimizer newton with --gradient mixed or reverse, got first_order")
      return newton(steps, damping=DAMPING, learning_rate=rate or self.inner_learning_rate)
    return gradient_steps(self._optimizer(rate or self.inner_learning_rate), steps, gradient=gradient)

  def _optimizer(self, rate: float) -> optax.GradientTransformation:
    square = rate**2
    match self.inner_optimizer:
      case "sgd":
        return optax.sgd(rate)
      case "momentum":
        return optax.sgd(rate, momentum=0.9)
      case "adam":
        return optax.adam(rate, eps_root=square)
      case "rmsprop":
        return optax.rmsprop(rate, eps=square)
      case name:
        raise ValueError(f"expected an inner optimizer of optax, got {name!r}")
