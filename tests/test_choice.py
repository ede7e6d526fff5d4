"""The inner loop of a test is chosen on validation tasks of its ways and shots."""

import jax.numpy as jnp
import numpy as np
import pytest
from table_of_learners import episodes

from experiments import anil, cavia, imaml, maml, maml_plus_plus, meta_sgd, proto_maml, reptile
from experiments.families import few_shot as fs
from experiments.families.few_shot import choice
from metajax import learners as factories
from metajax.evaluate import mean_and_ci
from metajax.experiment import PIXELS, EvalMode, FewShot
from metajax.experiment.types import Trained
from metajax.train import TrainState

SMALL = fs.AdaptedHead(head="repeated", filters=4)
TRAINED = [TrainState(*[None] * len(TrainState._fields))]
WITH_RATES, LEARNED_RATES = (maml, anil, cavia, proto_maml, imaml, reptile), (maml_plus_plus, meta_sgd)


def scored(monkeypatch, *means):
  """Validation tasks give these accuracies, in this order; returns what was asked."""
  asked, scores = [], iter(means)

  def accuracy(learner, params, state, batches, tasks):
    asked.append((learner, batches, tasks))
    return mean_and_ci(np.full(2, next(scores)))

  monkeypatch.setattr(choice, "few_shot_accuracy", accuracy)
  return asked


def built(module, setting=(5, 1), **tries):
  kind = fs.Tries if module in WITH_RATES else fs.TrySteps
  config = module.Config()
  (tests,) = module.build(config._replace(tries=kind(**tries, try_tasks=7))).evaluate
  return tests, None if tests.choose is None else tests.modes_for(TRAINED, setting, "validation tasks")


@pytest.mark.parametrize("module", [*WITH_RATES, *LEARNED_RATES])
def test_the_best_inner_loop_on_validation_tasks_is_tested_under_both_norms(monkeypatch, capsys, module):
  """The first of equal ones; the records and the terminal say which."""
  rates = {"try_inner_learning_rates": (0.3, 3.0)} if module in WITH_RATES else {}
  asked = scored(monkeypatch, *((40.0, 70.0, 70.0, 60.0) if rates else (40.0, 70.0)))
  tests, modes = built(module, try_inner_steps=(1, 4), **rates)
  assert [one[1:] for one in asked] == [("validation tasks", 7)] * (4 if rates else 2)
  steps, rate = (1, 3.0) if rates else (4, None)
  said = {"test_inner_steps": steps} | ({"test_inner_learning_rate": rate} if rates else {})
  assert [mode.query_norm for mode in modes] == [mode.query_norm for mode in tests.modes] and len(modes) == 2
  written = tests.records((5, 1), {mode: [mean_and_ci(np.full(2, 50.0))] for mode in modes}, {}, 0)
  assert [{name: one.about[name] for name in said} for one in written] == [said] * 2
  best = "1 step of 3" if rates else "4 steps"
  assert f"{modes[0].name}: {best} (7 validation tasks, 1 step" in capsys.readouterr().out


def test_what_is_tested_takes_the_chosen_steps_at_the_chosen_rate(monkeypatch):
  scored(monkeypatch, 10.0, 90.0)
  adapts = []
  make = lambda network, adapt, **how: adapts.append(adapt) or factories.maml(network, adapt, **how)
  monkeypatch.setattr(maml, "maml", make)
  tries = fs.Tries((3,), (0.1, 0.7))
  (tests,) = maml.build(maml.Config(fs.InnerLoop(0.1, 1, 1), tries, network=SMALL)).evaluate
  modes = tests.modes_for(TRAINED, (5, 1), "validation tasks")
  assert len(adapts) == 2 * 2 + 1 + 2 and len(modes) == 2  # two candidates, trained, tested by default
  for adapt in adapts[2:4]:
    found, _ = adapt(lambda params, data: (params["head"] ** 2).sum(), {"head": jnp.ones(1)}, jnp.zeros(1))
    np.testing.assert_allclose(found["head"], (1 - 2 * 0.7) ** 3, rtol=1e-6)


def test_each_setting_has_validation_tasks_of_its_ways_and_shots():
  setup = fs.Setup(tests=fs.Tests(("5w1s", "20w2s"), test_queries=3))
  (tests,) = maml.build(maml.Config(tries=fs.Tries((1, 2)), network=SMALL, setup=setup)).evaluate
  for ways, shots in ((5, 1), (20, 2)):
    support, query = next(tests.validation((ways, shots))())
    assert support.labels.shape[1:] == (ways * shots, ways) and query.labels.shape[1:] == (ways * 3, ways)
    other = next(tests.tests()[ways, shots]())
    assert not np.array_equal(support.inputs, other.support.inputs)


def test_each_setting_is_tested_with_what_was_chosen_for_it():
  asked, mode = [], EvalMode("own", PIXELS.learner)

  def tasks(ways):
    return lambda start=0, shard=(0, 1): iter([episodes(0, (2, 2, 1), ways=ways, shots=1, queries=2, tasks=2)])

  def choose(states, validation):
    asked.append(validation)
    return (mode._replace(said=(("chosen_for", validation),)),)

  tests = {(ways, 1): tasks(ways) for ways in (2, 3)}
  tester = FewShot((mode,), lambda: tests, num_tasks=2, choose=choose, validation=lambda setting: setting)
  state = TrainState(*[()] * len(TrainState._fields))._replace(step=np.zeros((), int))
  written = tester(Trained([state], mode.learner, 1.0, 1, 1, 0, 0.0, []))
  assert asked == [(2, 1), (3, 1)]
  assert [one.about["chosen_for"] for one in written if one.learner == "own"] == asked


def test_nothing_is_chosen_without_flags_that_ask_for_it():
  for module in (maml, meta_sgd):
    assert built(module)[0].choose is None
