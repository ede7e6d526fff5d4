"""Metrics of speed: operations counted by hand, the peak of known devices, and goodput after a lost process."""

import jax
import numpy as np
import optax
import pytest

from metajax import Examples
from metajax.compiled import flops, peak_flops
from metajax.compose import linear
from metajax.experiment import throughput
from metajax.learners import supervised
from metajax.train import make_train_step, start


def test_a_step_of_a_linear_network_has_the_operations_counted_by_hand():
  rows, inputs, features, ways = 6, 5, 7, 4
  batch = Examples(np.ones((rows, inputs), np.float32), np.eye(ways, dtype=np.float32)[np.arange(rows) % ways])
  learner, optimizer = supervised(linear(features)), optax.sgd(0.1)  # which adds a linear head
  step, state = make_train_step(learner, optimizer), start(learner, optimizer, batch)
  first, head = 2 * rows * inputs * features, 2 * rows * features * ways
  expected = 2 * first + 3 * head  # forward, gradients of both weights, and of the features
  assert flops(step, state, batch) == expected
  with jax.default_matmul_precision("highest"):
    assert flops(step, state, batch, in_bfloat16=True) == 6 * expected


def test_the_peak_is_that_of_the_published_specification():
  assert peak_flops("NVIDIA H200") == 989e12 and peak_flops("TPU v5 lite") == 197e12
  assert peak_flops("NVIDIA H100 PCIe") == 756e12 and peak_flops("cpu") is None


def test_utilization_is_operations_over_time_and_peak(monkeypatch):
  monkeypatch.setattr(throughput, "peak_flops", lambda kind: 1e12)
  added = throughput.throughput(32, 0, 0, lambda: 10**9, clock=lambda: throughput.BEGAN + 100)
  found = added(10, {"steps_per_second": 4.0, "data_wait_fraction": 0.0})
  assert found["mfu"] == pytest.approx(1e9 * 4 / (1e12 * jax.device_count()))
  assert found["rows_per_second"] == 128


def test_goodput_counts_new_steps_alone():
  added = throughput.throughput(1, 40, 50, clock=lambda: throughput.BEGAN + 100)
  metrics = {"steps_per_second": 1.0, "data_wait_fraction": 0.2}
  assert added(50, metrics)["goodput"] == 0  # an earlier process had come to step 50
  assert added(100, metrics)["goodput"] == pytest.approx(50 * 0.8 / 100)
  assert "mfu" not in added(110, metrics)
