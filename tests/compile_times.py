"""What each test file costs: programs compiled, seconds spent on them, wall and CPU seconds, and each worker's memory.

`make test` prints the costliest files, `make test-times` all of them.
"""

import os
import resource
import time
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

import jax
import pytest

COMPILED = "/jax/core/compile/backend_compile_duration"
BUILT = ("/jax/core/compile/jaxpr_trace_duration", "/jax/core/compile/jaxpr_to_mlir_module_duration", COMPILED)
SHOWN = 12  # files, unless all are asked for


class Cost(NamedTuple):
  """Of a test or of a file of tests."""

  tests: int = 0
  compiles: int = 0
  compile_seconds: float = 0.0  # traced, lowered and compiled, or read from the cache
  wall_seconds: float = 0.0
  cpu_seconds: float = 0.0  # of the process and of those that it started and awaited


spent = Cost()  # by this process so far: compiles and their seconds
files = defaultdict(Cost)
peaks = []  # MiB, of the workers
skipped = set()  # why


def count(event, seconds, **_):
  global spent
  if event in BUILT:
    compiles, total = spent.compiles + (event == COMPILED), spent.compile_seconds + seconds
    spent = spent._replace(compiles=compiles, compile_seconds=total)


jax.monitoring.register_event_duration_secs_listener(count)


def now():
  times = os.times()
  return spent._replace(wall_seconds=time.perf_counter(), cpu_seconds=sum(times[:4]))


def peak():
  """The most memory that the process has had, in MiB."""
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def resident():
  """The memory that the process has, in MiB; 0 where the system does not say."""
  pages = Path("/proc/self/statm")
  return int(pages.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20 if pages.exists() else 0


before = now()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
  """Writes on a report what its phase has cost."""
  global before
  report = (yield).get_result()
  after = now()
  cost = [b - a for a, b in zip(before, after, strict=True)]
  before = after
  report.user_properties = [("cost", [int(call.when == "call"), *cost[1:]])]


def pytest_runtest_logreport(report):
  if report.skipped and isinstance(report.longrepr, tuple):
    skipped.add(report.longrepr[2].removeprefix("Skipped: "))
  cost = dict(report.user_properties).get("cost")
  if cost:
    file = report.nodeid.split("::")[0].removeprefix("tests/")
    files[file] = Cost(*(a + b for a, b in zip(files[file], cost, strict=True)))


def pytest_sessionfinish(session):
  if hasattr(session.config, "workeroutput"):
    session.config.workeroutput["peak"] = peak()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node):
  if "peak" in getattr(node, "workeroutput", {}):
    peaks.append(node.workeroutput["peak"])


def pytest_addoption(parser):
  parser.addoption("--all-times", action="store_true", help="print what every test file has cost")


def pytest_terminal_summary(terminalreporter, config):
  if not files or hasattr(config, "workerinput"):
    return
  costliest = sorted(files.items(), key=lambda item: -item[1].wall_seconds)
  total = Cost(*map(sum, zip(*files.values(), strict=True)))
  shown = costliest if config.getoption("all_times") else costliest[:SHOWN]
  write = terminalreporter.write_line
  write(f"{'file':<40}{'tests':>7}{'compiles':>10}{'compiling':>12}{'wall':>9}{'CPU':>9}")
  for name, cost in [*shown, (f"all files: {len(files)}", total)]:
    seconds = "".join(f"{x:{width}.1f} s" for x, width in zip(cost[2:], (10, 7, 7), strict=True))
    write(f"{name:<40}{cost.tests:>7}{cost.compiles:>10}{seconds}")
  if skipped:
    write(f"skipped: {'; '.join(sorted(skipped))}")
  write("peak memory of the workers: " + ", ".join(f"{x:,.0f} MiB" for x in peaks or [peak()]))
