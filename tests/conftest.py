"""Eight simulated devices, compiled programs kept between runs, which tests are slow, and what runs beside what."""

import contextlib
import ctypes
import fnmatch
import gc
import os
import sys
from importlib.metadata import version
from pathlib import Path

FLAGS = [
  "--xla_force_host_platform_device_count=8",
  # The tests compile much and run little: XLA's own optimizations stay, LLVM's are left out.
  "--xla_backend_optimization_level=0",
  "--xla_cpu_parallel_codegen_split_count=1",
]
if version("jaxlib").startswith("0.10."):  # later ones know the flag no more, and end at one that they do not know
  FLAGS.append("--xla_cpu_use_fusion_emitters=false")  # with MLIR, fused operations take four times as long to emit
os.environ["XLA_FLAGS"] = " ".join([*FLAGS, os.environ.get("XLA_FLAGS", "")])
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")  # TensorFlow, which only feeds data, then imports no Keras at all

import jax  # noqa: E402  (the flags must be set before)
import pytest  # noqa: E402
from compile_times import *  # noqa: E402, F403
from compile_times import resident  # noqa: E402

jax.config.update("jax_compilation_cache_dir", str(Path(__file__).resolve().parent.parent / ".cache" / "jax"))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)

# Files that take longest come first, so that two workers end together.
LONGEST_FIRST = ("learner_laws", "experiments", "padded", "golden", "kill", "hosts", "contrastive", "three_axes")
LONGEST_FIRST += ("docstring_examples", "published_start", "layers_of_transformers", "mixture", "low_rank", "train")
MOST_MAPS = 30_000  # of a process's memory; Linux gives 65,530
MOST_MEMORY = 1600  # MiB of a process


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
  _mark_slow(items)
  _order(items)
  # Tracing makes and drops many objects: garbage is looked for less often, and not among what was imported.
  gc.collect()
  gc.freeze()
  gc.set_threshold(100_000, 50, 100)


def _mark_slow(items):
  """Marks as slow what `slow_tests.txt` says, of which each line must match a test."""
  lines = (Path(__file__).parent / "slow_tests.txt").read_text().splitlines()
  whole, of_file = set(), {}
  for item in items:
    of_file.setdefault(item.path.name, []).append(item)
    if "::" not in str(item.config.args):
      whole.add(item.path.name)
  for pattern in (line.split("  ")[0] for line in lines if line and not line.startswith("#")):
    file, _, test = pattern.partition("::")
    literal = test.replace("[", "[[]")  # only * stands for something else
    there = of_file.get(file, ())
    matched = [item for item in there if fnmatch.fnmatchcase(item.nodeid.partition("::")[2], literal)]
    for item in matched:
      item.add_marker(pytest.mark.slow)
    if not matched and file in whole:
      raise pytest.UsageError(f"slow_tests.txt: no test is {pattern!r}")


def _order(items):
  place, first = {f"test_{name}": i for i, name in enumerate(LONGEST_FIRST)}, {}
  for i, item in enumerate(items):
    first.setdefault(_group(item.nodeid), (place.get(item.path.stem, len(place)), i))
  items.sort(key=lambda item: first[_group(item.nodeid)])


def _group(nodeid):
  """What one worker runs from end to end, compiling once for all of it: a file, or of the laws those of a learner."""
  file, _, test = nodeid.partition("::")
  return file + test.partition("[")[2] if file.endswith("test_learner_laws.py") else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
  from xdist.scheduler import LoadScopeScheduling

  # xdist's own "loadgroup" puts no test of pytest 9.2 into a group: all were dealt out one by one, and compiled twice.
  scheduler = LoadScopeScheduling(config, log)
  scheduler._split_scope = _group
  return scheduler


@pytest.fixture(autouse=True, scope="module")
def little_memory():
  """Forgets compiled programs where they are many: they take memory, and memory maps, without which XLA crashes."""
  yield
  maps = Path("/proc/self/maps")
  if resident() > MOST_MEMORY or (maps.exists() and maps.read_bytes().count(b"\n") > MOST_MAPS):
    jax.clear_caches()
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):
      ctypes.CDLL("libc.so.6").malloc_trim(0)  # gives back what was freed


@pytest.fixture
def float64():
  """Numbers of 64 bits within a test."""
  with jax.enable_x64(True):
    yield


@pytest.fixture(autouse=True)
def no_export(request, monkeypatch):
  """Runs leave out their export, which takes seconds, but for tests marked `exports`."""
  driver = sys.modules.get("metajax.experiment.driver")
  if driver is not None and request.node.get_closest_marker("exports") is None:
    monkeypatch.setattr(driver, "_export", lambda *given: None)
