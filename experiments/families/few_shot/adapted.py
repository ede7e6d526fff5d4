"""Few-shot experiments of learners with an inner loop: under both query norms, after any number of steps."""

from collections.abc import Callable
from typing import Any

from experiments.families.few_shot.config import Setup
from experiments.families.few_shot.experiment import few_shot_experiment
from experiments.families.few_shot.networks import Adapted, AdaptedHead, with_start
from metajax.adapt import identity
from metajax.experiment import EvalMode, Experiment
from metajax.types import Learner


def under_both_norms(
  name: str,
  learner: Callable[[Any, str], Learner],
  adapt: Callable[[int], Any] | None,
  steps: int,
  flags: Adapted | AdaptedHead,
) -> tuple[EvalMode, ...]:
  """Evaluation modes of a learner, first under its training query norm, then under the other one.

  Args:
    name: Name in the records.
    learner: `(adapt, query_norm) -> Learner`.
    adapt: `steps -> Adapt`; None for a learner without inner steps.
    steps: Inner steps in test.
    flags: Flags of the network, with the query norm in training; without batch norm the result is one mode.
  """
  trained, other = flags.query_norm, "support" if flags.query_norm == "transductive" else "transductive"
  both = {trained: trained, other: f"{other}, trained {trained}"}
  query_norms = both if flags.normalization == "batch" else {trained: "none"}

  def mode(query_norm, text):
    if adapt is None:
      return EvalMode(name, learner(None, query_norm), text)
    return EvalMode(
      name, learner(adapt(steps), query_norm), text, lambda n: learner(adapt(n) if n else identity, query_norm)
    )

  return tuple(mode(query_norm, text) for query_norm, text in query_norms.items())


def adapted_experiment(
  setup: Setup,
  flags: Adapted | AdaptedHead,
  name: str,
  learner: Callable[[Any, str], Learner],
  steps: int,
  test_steps: int | None = None,
  adapt: Callable[[int], Any] | None = None,
) -> Experiment:
  """The experiment of a learner with an inner loop, tested under both query norms.

  Args:
    setup: Shared flags.
    flags: Flags of the network.
    name: Name in the records.
    learner: `(adapt, query_norm) -> Learner`; without `adapt` `(steps, query_norm) -> Learner`, which has no adaptation
      curve.
    steps: Inner steps in training.
    test_steps: Inner steps in validation and test; by default as in training.
    adapt: `steps -> Adapt`.

  Raises:
    ValueError: as `few_shot_experiment`.
  """
  tested, flags = test_steps or steps, with_start(flags, setup)
  if adapt is None:
    modes = under_both_norms(name, lambda _, query_norm: learner(tested, query_norm), None, 0, flags)
    return few_shot_experiment(setup, name, learner(steps, flags.query_norm), modes)
  modes = under_both_norms(name, learner, adapt, tested, flags)
  return few_shot_experiment(setup, name, learner(adapt(steps), flags.query_norm), modes)
