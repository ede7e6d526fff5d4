"""One device a core: what is counted, what is divided, and that a training and its scores stay what they are."""

import socket
import sys

import jax
import numpy as np
import optax
import pytest

from metajax import fit, gradient_steps, make_mesh
from metajax.data import episodes, load
from metajax.evaluate import few_shot_accuracy
from metajax.experiment import command_line
from metajax.learners import maml
from metajax.mesh import cores, device_count, distributed, joining, on_one_device, over_cores, split_cpu
from metajax.networks import mlp

cores_module = sys.modules["metajax.mesh.cores"]  # the package has a function of that name


@pytest.fixture
def divided(monkeypatch):
  """The eight devices of the tests as those of a divided CPU."""
  monkeypatch.setattr(cores_module, "_is_divided", lambda: True)


@pytest.mark.parametrize(
  ("quota", "number"), [("150000 100000", 2), ("max 100000", 64), ("10000 100000", 1), ("", 64), (None, 64)]
)
def test_cores_are_those_of_the_affinity_and_of_the_quota(monkeypatch, tmp_path, quota, number):
  monkeypatch.setattr(cores_module.os, "sched_getaffinity", lambda process: range(64))
  monkeypatch.setattr(cores_module, "QUOTA", tmp_path / "cpu.max")
  if quota is not None:
    (tmp_path / "cpu.max").write_text(quota)
  assert cores() == number


def told(monkeypatch, flags="", number=-1):
  """What `split_cpu(5)` sets in a process of its own, with XLA's flags and JAX's number of devices."""
  found = {"jax_num_cpu_devices": number}
  monkeypatch.setenv("XLA_FLAGS", flags)
  monkeypatch.setattr(
    cores_module.jax, "config", type("Config", (), {"jax_num_cpu_devices": number, "update": found.__setitem__})
  )
  split_cpu(5)
  return found["jax_num_cpu_devices"]


def test_a_cpu_is_divided_unless_its_devices_are_told(monkeypatch):
  assert told(monkeypatch) == 5
  assert told(monkeypatch, number=1) == 1
  assert told(monkeypatch, flags="--xla_force_host_platform_device_count=3") == -1


def test_a_cpu_that_is_in_use_stays_as_it_is():
  jax.block_until_ready(jax.numpy.ones(1))
  split_cpu(3)
  assert jax.device_count() == 8


@pytest.mark.parametrize(
  ("arguments", "number"), [("--devices 4", 4), ("--devices=6 --hosts 2", 3), ("--devices x", None), ("", None)]
)
def test_a_command_has_as_many_devices_as_it_says(monkeypatch, arguments, number):
  found = []
  monkeypatch.setattr(command_line, "split_cpu", found.append)
  monkeypatch.setattr(command_line.sys, "argv", ["x", *arguments.split()])
  command_line._split_cpu()
  assert found == [number]


def test_a_training_and_its_scores_are_the_same_on_a_divided_cpu(monkeypatch):
  batches = episodes(load("glyphs", "train"), ways=3, shots=1, queries=2, meta_batch_size=4)
  learner, seen = maml(mlp([8], 3), gradient_steps(optax.sgd(0.1), 1)), []

  def trained():
    def validate(params, state):
      seen.append((device_count(), {len(x.sharding.device_set) for x in jax.tree.leaves(params)}))
      return few_shot_accuracy(learner, params, state, batches, 10).mean

    state = fit(learner, optax.adam(1e-2), batches, 3, validate=validate, eval_every=2)
    return state, few_shot_accuracy(learner, state.params, state.state, batches, 10)

  alone, score = trained()
  monkeypatch.setattr(cores_module, "_is_divided", lambda: True)
  counts = []
  original = cores_module.make_mesh
  monkeypatch.setattr(cores_module, "make_mesh", lambda count: counts.append(count) or original(count))
  together, again = trained()
  assert counts == [4] * 4  # the training, two validations, and the score
  assert seen == [(1, {1})] * 4
  for x, y in zip(jax.tree.leaves(alone.params), jax.tree.leaves(together.params), strict=True):
    assert len(y.sharding.device_set) == 1 and not y.committed
    np.testing.assert_allclose(x, y, rtol=0, atol=1e-6)
  assert jax.random.key_data(alone.key).tolist() == jax.random.key_data(together.key).tolist()
  np.testing.assert_array_equal(score.tasks, again.tasks)


@pytest.mark.parametrize(
  "batch", [np.ones([5, 2]), {"x": np.ones([4, 1]), "y": np.ones(3)}, {"x": np.ones(4), "y": 2.0}, {}]
)
def test_a_batch_that_cannot_be_divided_stays_on_one_device(divided, batch):
  with over_cores(batch) as sharded:
    assert sharded == (isinstance(batch, np.ndarray)) and device_count() == (5 if sharded else 1)


def test_a_mesh_that_is_set_goes_before(divided):
  with jax.set_mesh(make_mesh(2)), over_cores(np.ones(8)) as sharded:
    assert not sharded and device_count() == 2


def test_keys_stay_keys_on_one_device():
  key = jax.random.key(3)
  assert jax.random.key_data(on_one_device(key)).tolist() == jax.random.key_data(key).tolist()


def test_hosts_with_other_flags_are_named(monkeypatch):
  monkeypatch.setattr(distributed.jax, "process_count", lambda: 2)
  first = {"--steps": "10", "--folder": "a"}
  monkeypatch.setattr(distributed, "broadcast_from_primary", lambda make: first)
  gathered = []

  def gather(own):
    gathered.append(own)
    return np.stack([np.zeros_like(own), own])

  monkeypatch.setattr(distributed.multihost_utils, "process_allgather", gather)
  distributed.check_same_on_hosts(dict(first))
  with pytest.raises(ValueError, match="on every host, but host 1 has --steps '20' instead of '10'"):
    distributed.check_same_on_hosts(first | {"--steps": "20"})
  with pytest.raises(ValueError, match="host 1 has --more 'x' instead of None"):
    distributed.check_same_on_hosts(first | {"--more": "x"})


def test_a_host_says_whom_it_waits_for(monkeypatch, capsys):
  monkeypatch.setattr(joining, "PATIENCE", 0.1)
  with socket.socket() as there:
    there.bind(("127.0.0.1", 0))
    address = f"127.0.0.1:{there.getsockname()[1]}"  # nobody listens
    with pytest.raises(RuntimeError, match=f"expected host 0 at {address}, got no answer for 1 s"):
      joining._find_coordinator(address, 1, 1)
    assert f"host 1 waits up to 1 s for host 0 at {address}" in capsys.readouterr().err
    there.listen()
    joining._find_coordinator(address, 1, 1)
