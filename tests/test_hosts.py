"""Several hosts, real processes on this machine, train, stop, die and go on as one would."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import chex
import conftest
import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
from one_of_several_hosts import of_all

from experiments import sinusoid
from experiments.launch_local import free_port
from metajax.experiment import main

HERE = Path(__file__).resolve().parent
LEARNERS = ("maml", "prototypical", "simclr", "clip")
FLAGS = " ".join(conftest.FLAGS[1:])  # all but the simulated devices


def environment(**more):
  """Of a process with one CPU device, which finds the programs that were compiled before."""
  cache = jax.config.jax_compilation_cache_dir
  kept = {"JAX_COMPILATION_CACHE_DIR": cache, "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
  return {**os.environ, "XLA_FLAGS": FLAGS, "JAX_PLATFORMS": "cpu", **kept, **more}


def train_as(hosts, file, trainings, devices=1):
  """The params of trainings, `{training: path: array}`, of as many processes, of so many devices each."""
  several = {"XLA_FLAGS": f"{FLAGS} --xla_force_host_platform_device_count={devices}"} if devices > 1 else {}
  command = [sys.executable, str(HERE / "one_of_several_hosts.py"), str(free_port()), str(hosts)]
  own = lambda host: subprocess.Popen([*command, str(host), str(file), *trainings], env=environment(**several))
  started = [own(host) for host in range(hosts)]
  assert [one.wait(timeout=500) for one in started] == [0] * hosts
  with np.load(file) as stored:
    return dict(stored)


@pytest.mark.parametrize(
  ("hosts", "learners", "sharded"),
  [
    (2, ("prototypical",), ("prototypical",)),
    pytest.param(2, LEARNERS, LEARNERS, marks=pytest.mark.slow),
    pytest.param(4, LEARNERS, LEARNERS, marks=pytest.mark.slow),
  ],
)
def test_hosts_learn_and_measure_what_one_does(tmp_path, hosts, learners, sharded):
  # SimCLR has running statistics.
  evaluation = f"evaluation of {'simclr' if 'simclr' in learners else 'prototypical'}"
  alone = of_all([*learners, evaluation], devices=1)
  names = [*learners, *(f"{learner}+fsdp" for learner in sharded), evaluation]
  together = train_as(hosts, tmp_path / "together.npz", names)
  assert {name.split(":")[0] for name in together} == set(names)
  np.testing.assert_array_equal(together[f"{evaluation}: labels"], np.arange(13))  # each example once, in its order
  for name, params in together.items():
    np.testing.assert_allclose(params, alone[name.replace("+fsdp", "")], rtol=0, atol=1e-5, err_msg=name)


@pytest.mark.slow
def test_two_hosts_learn_on_three_axes_what_one_device_does(tmp_path):
  together = train_as(2, tmp_path / "together.npz", ["clip+axes", "maml+axes"], devices=4)
  alone = of_all(["clip", "maml"], devices=1)
  assert len(together) == len(alone)
  for name, params in together.items():
    np.testing.assert_allclose(params, alone[name.replace("+axes", "")], rtol=0, atol=1e-5, err_msg=name)


SINE_WAVES = ["--steps", "120", "--checkpoint-every", "10", "--tasks", "4", "--hidden", "8", "--test-tasks", "25"]


def launch(hosts, folder, *more):
  """A command as several hosts; each of them is its child."""
  arguments = ["-m", "experiments.launch_local", str(hosts), "experiments.sinusoid", *more, "--folder", str(folder)]
  pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
  return subprocess.Popen([sys.executable, *arguments], env=environment(), **pipes)


def finish(process, status=0):
  said, _ = process.communicate(timeout=120)
  assert process.returncode == status, said
  return said


def last_host(process, folder, step):
  """The process of the last host, once the run has a checkpoint of a step from `step` on."""
  until = time.monotonic() + 100
  while max((int(path.name) for path in (folder / "maml" / "checkpoints").glob("[0-9]*[0-9]")), default=0) < step:
    assert process.poll() is None and time.monotonic() < until, process.communicate()[0]
    time.sleep(0.01)
  children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
  return int(children[-1])


def arrays(folder, like=None):
  """The last checkpoint of a run, of any number of hosts if it is told what there is."""
  here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
  target = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=here), like)
  return ocp.StandardCheckpointer().restore(folder / "maml" / "checkpoints" / "120" / "arrays", target)


@pytest.mark.slow
@pytest.mark.parametrize("hosts", [1, 4])
def test_a_run_that_is_stopped_and_killed_goes_on_with_any_number_of_hosts(tmp_path, hosts):
  folder, alone = tmp_path / "run", launch(1, tmp_path / "alone", *SINE_WAVES)
  together = launch(2, folder, *SINE_WAVES, "--fsdp")
  os.kill(last_host(together, folder, step=20), signal.SIGTERM)
  said = finish(together)
  (step,) = set(re.findall(r"stopped by SIGTERM after step (\d+), saved", said))
  assert said.count(f"stopped by SIGTERM after step {step}, saved") == 2  # both of them
  assert "to resume: python -m experiments.sinusoid --folder" in said

  together = launch(2, folder, "--resume")
  os.kill(last_host(together, folder, step=int(step) + 20), signal.SIGKILL)
  began = time.monotonic()
  said = finish(together, status=3)
  assert time.monotonic() - began < 20
  assert f"resuming after step {step}" in said
  assert "error: host 1 has ended or can no longer be reached; to resume: " in said
  assert "host 1 was killed by SIGKILL" in said and "Traceback" not in said

  assert "resuming after step" in finish(launch(hosts, folder, "--resume"))
  finish(alone)
  expected = arrays(tmp_path / "alone")
  chex.assert_trees_all_close(arrays(folder, expected), expected, rtol=0, atol=1e-5)
  rows = [json.loads(line) for line in (folder / "maml" / "metrics.jsonl").read_text().splitlines()]
  assert [row["step"] for row in rows] == list(range(6, 121, 6))  # none twice, none missing
  found = {r["learner"]: r["value"] for r in json.loads((folder / "records.json").read_text())}
  expected = {r["learner"]: r["value"] for r in json.loads((tmp_path / "alone" / "records.json").read_text())}
  assert found == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize(
  ("flags", "said"),
  [
    (["--hosts", "2"], "expected a coordinator, hosts and host, or none of them, got no coordinator and no host"),
    (["--coordinator", "here:1", "--hosts", "2", "--host", "2"], "expected host from 0 to 1, got 2"),
    (["--coordinator", "here", "--hosts", "2", "--host", "0"], "expected a coordinator address:port, got 'here'"),
    (["--coordinator", "here:1", "--hosts", "two", "--host", "0"], "expected whole numbers, got 'two'"),
  ],
)
def test_hosts_that_cannot_meet_are_refused_at_once(monkeypatch, capsys, tmp_path, flags, said):
  monkeypatch.setattr(sys, "argv", ["experiments.sinusoid", *flags, "--folder", str(tmp_path)])
  with pytest.raises(SystemExit) as stop:
    main(sinusoid.build)
  error = capsys.readouterr().err
  assert stop.value.code == 2 and said in error and error.count("\n") == 1
  assert not any(tmp_path.iterdir())
