"""The peak rate of the machine."""

import math
import time
from collections.abc import Callable

import jax


def peak_gigaflops(size: int = 1024, seconds: float = 1.0, clock: Callable = time.perf_counter) -> float:
  """Measured peak rate of a product of two `[size, size]` float32 matrices, in 10^9 operations per second."""
  a = jax.random.normal(jax.random.key(0), (size, size))
  product = jax.jit(lambda a: a @ a)
  jax.block_until_ready(product(a))
  best, began = math.inf, clock()
  while clock() - began < seconds:
    start = clock()
    jax.block_until_ready([product(a) for _ in range(4)])
    best = min(best, (clock() - start) / 4)
  return 2 * size**3 / best / 1e9
