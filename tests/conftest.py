"""Eight simulated devices, and compiled programs kept between runs."""

import gc
import os
from pathlib import Path

FLAGS = (
  "--xla_force_host_platform_device_count=8",
  # The tests compile much and run little: XLA's own optimizations stay, LLVM's are left out, and fused operations are
  # emitted without MLIR, which takes four times as long.
  "--xla_backend_optimization_level=0",
  "--xla_cpu_use_fusion_emitters=false",
  "--xla_cpu_parallel_codegen_split_count=1",
)
os.environ["XLA_FLAGS"] = " ".join([*FLAGS, os.environ.get("XLA_FLAGS", "")])
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax  # noqa: E402  (the flags must be set before)
import pytest  # noqa: E402
from compile_times import *  # noqa: E402, F403

jax.config.update("jax_compilation_cache_dir", str(Path(__file__).resolve().parent.parent / ".cache" / "jax"))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)


MOST_MAPS = 30_000  # of a process's memory; Linux gives 65,530


@pytest.fixture(autouse=True, scope="module")
def few_memory_maps():
  """Forgets compiled programs where they are many: each takes some memory maps, and without any left XLA crashes."""
  yield
  maps = Path("/proc/self/maps")
  if maps.exists() and maps.read_bytes().count(b"\n") > MOST_MAPS:
    jax.clear_caches()
    gc.collect()


@pytest.fixture
def float64():
  """Numbers of 64 bits within a test."""
  with jax.enable_x64(True):
    yield
