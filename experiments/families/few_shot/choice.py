"""What is chosen after training, by validation tasks of a test's ways and shots."""

from collections.abc import Callable, Sequence
from typing import Annotated, NamedTuple

from metajax.evaluate import few_shot_accuracy
from metajax.experiment import EvalMode
from metajax.experiment.bounds import Bounds, Positive, TwoOrMore
from metajax.train import TrainState
from metajax.types import Batches


class TrySteps(NamedTuple):
  """Inner loops to try on validation tasks of each test's ways and shots, before the test."""

  try_inner_steps: Annotated[tuple[int, ...], Bounds(1, 10**5)] = ()
  """Numbers of inner-loop steps to try in test; the best is tested. By default those of validation alone."""
  try_tasks: TwoOrMore = 100
  """Validation tasks that choose the inner loop."""


class Tries(NamedTuple):
  """Inner loops to try on validation tasks of each test's ways and shots, before the test."""

  try_inner_steps: Annotated[tuple[int, ...], Bounds(1, 10**5)] = ()
  """Numbers of inner-loop steps to try in test; the best is tested. By default those of validation alone."""
  try_inner_learning_rates: Annotated[tuple[float, ...], *Positive.__metadata__] = ()
  """Inner-loop learning rates to try in test; the best is tested. By default that of training alone."""
  try_tasks: TwoOrMore = 100
  """Validation tasks that choose the inner loop."""


class Candidate(NamedTuple):
  """One of several ways to test, e.g. with an inner learning rate.

  Attributes:
    name: What distinguishes it, e.g. "learning rate 0.1".
    modes: Modes to test if it is chosen; validation tasks score the first.
  """

  name: str
  modes: tuple[EvalMode, ...]


class Choice(NamedTuple):
  """The best candidate of each group is tested, and the first of equal ones.

  Attributes:
    groups: Candidates of each group.
    tasks: Number of validation tasks.
  """

  groups: tuple[tuple[Candidate, ...], ...]
  tasks: int

  def mapped(self, function: Callable[[Sequence[EvalMode]], tuple[EvalMode, ...]]) -> "Choice":
    """The choice with other modes of each candidate."""
    return self._replace(groups=tuple(tuple(one._replace(modes=function(one.modes)) for one in g) for g in self.groups))

  def choose(self, states: Sequence[TrainState], validation: Batches) -> tuple[EvalMode, ...]:
    """The modes to test of the candidates that are best on validation tasks, by their mean over the trained states."""
    return tuple(mode for group in self.groups for mode in _best(group, self.tasks, states, validation).modes)


def _best(group: Sequence[Candidate], tasks: int, states: Sequence[TrainState], validation: Batches) -> Candidate:
  def accuracy(candidate):
    learner = candidate.modes[0].learner
    scores = [few_shot_accuracy(learner, one.params, one.state, validation, tasks) for one in states]
    return sum(score.mean for score in scores) / len(scores)

  found = {candidate.name: accuracy(candidate) for candidate in group}
  best = max(group, key=lambda candidate: found[candidate.name])
  shown = ", ".join(f"{name}: {value:.1f}%" for name, value in found.items())
  print(f"{best.modes[0].title}: {best.name} ({tasks} validation tasks, {shown})", flush=True)
  return best
