"""Metrics of a run's speed: rows a second, use of the devices, memory, and the share of time well spent."""

import statistics
import time
from collections.abc import Callable

import jax

from metajax.compiled import peak_flops

BEGAN = time.perf_counter()  # of this process, about


def throughput(
  rows: int,
  start: int,
  seen: int,
  flops: Callable[[], int] | None = None,
  clock: Callable[[], float] = time.perf_counter,
) -> Callable[[int, dict], dict]:
  """Returns `added(step, metrics) -> metrics` of a training's speed.

      mfu      operations of a step in matrix products / seconds of a step / peak of all devices in bfloat16
      goodput  (new steps * seconds of a step) / seconds since the process began

  A step takes the median over the reports. New steps are not those that an earlier process had taken and lost. What
  goodput lacks to 1 went to importing, loading data, compiling, restoring, saving, validating and waiting for data.

  Args:
    rows: Examples or tasks of a step, over all devices.
    start: Step that the training starts after.
    seen: Last step that an earlier process reported; 0 for none.
    flops: Counts the operations of a step; called once, and only where the peak of the devices is known.
    clock: Seconds.
  """
  kind, devices = jax.devices()[0].device_kind, jax.device_count()
  peak = peak_flops(kind)
  operations = flops() if flops is not None and peak else 0
  taken = []

  def added(step, metrics):
    rate, waiting = metrics.get("steps_per_second"), metrics.get("data_wait_fraction", 0.0)
    if not rate:
      return {}
    taken.append((1 - waiting) / rate)
    typical = statistics.median(taken[1:] or taken)  # the first report has compiled
    found = {"rows_per_second": rows * rate}
    found["goodput"] = min(1.0, max(0, step - max(start, seen)) * typical / (clock() - BEGAN))
    if operations and peak:
      found["mfu"] = operations * rate / (peak * devices)
    return found | _memory()

  return added


def _memory() -> dict[str, float]:
  """The most memory that a device of this host had in use, where it tells."""
  used = [(device.memory_stats() or {}).get("peak_bytes_in_use") for device in jax.local_devices()]
  known = [one for one in used if one is not None]
  return {"device_memory_gib": max(known) / 2**30} if known else {}
