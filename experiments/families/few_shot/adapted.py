"""Few-shot experiments of learners with an inner loop: under both query norms, after any number of steps."""

from collections.abc import Callable
from itertools import product
from typing import Any

from experiments.families.few_shot.choice import Candidate, Choice, Tries, TrySteps
from experiments.families.few_shot.config import Setup
from experiments.families.few_shot.experiment import few_shot_experiment
from experiments.families.few_shot.networks import Adapted, AdaptedHead, name_of, with_start
from metajax.adapt import identity
from metajax.checks import counted
from metajax.experiment import EvalMode, Experiment
from metajax.types import Learner

_NOTHING_TRIED = TrySteps()
AdaptFor = Callable[[int, float | None], Any]  # (inner steps, learning rate; None for that of training) -> Adapt


def under_both_norms(
  name: str, learner: Callable[[Any, str], Learner], flags: Adapted | AdaptedHead, adapt: Any, after: AdaptFor | None
) -> tuple[EvalMode, ...]:
  """Evaluation modes of a learner, first under its training query norm, then under the other one.

  Args:
    name: Name in the records.
    learner: `(adapt, query_norm) -> Learner`.
    flags: Flags of the network, with the query norm in training; without batch norm the result is one mode.
    adapt: The inner loop in test.
    after: `(steps, rate) -> Adapt` for the adaptation curve; None for none.
  """
  trained, other = flags.query_norm, "support" if flags.query_norm == "transductive" else "transductive"
  both = {trained: trained, other: f"{other}, trained {trained}"}
  query_norms = both if flags.normalization == "batch" else {trained: "none"}

  def mode(query_norm, text):
    curve = None if after is None else lambda n: learner(after(n, None) if n else identity, query_norm)
    return EvalMode(name, learner(adapt, query_norm), text, curve)

  return tuple(mode(query_norm, text) for query_norm, text in query_norms.items())


def tried(
  modes: Callable[[Any], tuple[EvalMode, ...]], adapt: AdaptFor, steps: int, tries: Tries | TrySteps
) -> Choice | None:
  """The choice among the inner loops of some flags; None if they ask for none.

  Args:
    modes: `adapt -> modes`.
    adapt: `(steps, rate) -> Adapt`.
    steps: Inner steps where no others are tried.
    tries: The flags.
  """
  rates = tries.try_inner_learning_rates if isinstance(tries, Tries) else ()
  if not tries.try_inner_steps and not rates:
    return None

  def candidate(steps, rate):
    said = (("test_inner_steps", steps), *((("test_inner_learning_rate", rate),) if rate else ()))
    found = tuple(mode._replace(said=(*mode.said, *said)) for mode in modes(adapt(steps, rate)))
    return Candidate(counted(steps, "step") + (f" of {rate:g}" if rate else ""), found)

  pairs = product(tries.try_inner_steps or (steps,), rates or (None,))
  return Choice((tuple(candidate(*pair) for pair in pairs),), tries.try_tasks)


def adapted_experiment(
  setup: Setup,
  flags: Adapted | AdaptedHead,
  name: str,
  learner: Callable[[Any, str], Learner],
  steps: int,
  test_steps: int | None = None,
  adapt: AdaptFor = lambda steps, rate: steps,
  *,
  tries: Tries | TrySteps = _NOTHING_TRIED,
  curve: bool = False,
  trained: Learner | None = None,
  **other: Any,
) -> Experiment:
  """The experiment of a learner with an inner loop, tested under both query norms.

  Args:
    setup: Shared flags.
    flags: Flags of the network.
    name: Name in the records.
    learner: `(adapt, query_norm) -> Learner`, with what `adapt` returns.
    steps: Inner steps in training.
    test_steps: Inner steps in validation and test; by default as in training.
    adapt: `(steps, rate) -> Adapt`; by default the number of steps.
    tries: What is tried on validation tasks before the test; by default nothing.
    curve: Whether the learner adapts by any `Adapt`, and so has an adaptation curve.
    trained: Learner to train; by default with the inner loop of training.
    other: Further arguments of `few_shot_experiment`.

  Raises:
    ValueError: as `few_shot_experiment`.
  """
  tested, flags = test_steps or steps, with_start(flags, setup)

  def modes(inner):
    return under_both_norms(name, learner, flags, inner, adapt if curve else None)

  choice = tried(modes, adapt, tested, tries)
  trained = learner(adapt(steps, None), flags.query_norm) if trained is None else trained
  named = name_of(flags.filters, flags.downsample)
  return few_shot_experiment(setup, name, trained, modes(adapt(tested, None)), choice=choice, encoder=named, **other)
