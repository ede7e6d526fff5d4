"""What a training step takes on slices of TPUs: memory, operations, traffic and an estimated time."""

import math
import re
import time
from collections import Counter
from typing import Any, NamedTuple, cast

import jax
import optax
from jax.sharding import Mesh

from metajax.compiled.chips import BETWEEN_SLICES, CHIPS_OF_A_HOST
from metajax.compiled.flops import flops
from metajax.compiled.program import Collective, read_program
from metajax.compiled.step import compile_step, placed, shapes, share, with_rows
from metajax.compiled.topology import Slices
from metajax.mesh import device_count
from metajax.train import make_train_step
from metajax.types import Batch, Learner

MOST_COMPILES = 5  # of batches that may fit, where one does not
# What the compiler says of temporaries alone, in one of two ways.
USED = re.compile(r"(?:Used|temporaries) \(?([\d.]+)([KMG]?)\)? (?:of|exceeds available HBM) \(?([\d.]+)([KMG]?)")
UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30}


class Projection(NamedTuple):
  """A training step on slices, for each of their devices; bytes and operations are the program's, times are estimates.

  Attributes:
    slices: The slices.
    rows: Examples or tasks of a batch, over all devices.
    parameters, optimizer_state, batch: Bytes of a device's share.
    temporary: Bytes of everything else that the step needs at its peak, or None if that alone is more than there is.
    memory: Bytes that a program may use.
    needed: Bytes of it all.
    largest: The largest number of rows found to fit, where these do not.
    operations: Operations of a step in matrix products, counted as products in bfloat16.
    cycles: Cycles of the step that the compiler expects, without its collectives.
    collectives: Collective operations.
    unknown_loops: Loops whose length is not in the program; they are counted once.
    compile_seconds: Seconds that compiling took.
  """

  slices: Slices
  rows: int
  parameters: int
  optimizer_state: int
  batch: int
  temporary: int | None
  memory: int
  needed: int
  largest: int | None
  operations: float
  cycles: int
  collectives: tuple[Collective, ...]
  unknown_loops: int
  compile_seconds: float

  @property
  def fits(self) -> bool:
    """Whether the step fits into the memory of a device."""
    return self.temporary is not None and self.needed <= self.memory

  @property
  def sent(self) -> dict[tuple[str, str], int]:
    """Bytes that a device sends in a step, by the kind of collective and the axes of the mesh."""
    total = Counter()
    for one in self.collectives:
      total[one.kind, " ".join(one.axes)] += one.sent
    return dict(total)

  @property
  def computing(self) -> float:
    """Seconds of computing: by the compiler's cycles, and not fewer than the operations take at the peak."""
    return max(self.cycles / self.slices.chip.clock, self.operations / self.slices.chip.flops)

  @property
  def sending(self) -> float:
    """Seconds of collectives that nothing overlaps, at the peak of the links."""
    links = sum(self.sent.values()) / self.slices.chip.sends
    if self.slices.slices == 1:
      return links
    # The hosts of a slice share what the slice exchanges with the others.
    hosts = max(1, len(self.slices.devices) // self.slices.slices // CHIPS_OF_A_HOST)
    between = sum(one.times * one.size for one in self.collectives if one.devices > len(self.slices.devices) // 2)
    return links + 2 * (1 - 1 / self.slices.slices) * between / hosts / BETWEEN_SLICES

  @property
  def step(self) -> float:
    """Estimated seconds of a step: computing and then sending."""
    return self.computing + self.sending

  @property
  def utilization(self) -> float:
    """Fraction of the peak rate that the step would reach."""
    return self.operations / self.slices.chip.flops / self.step


def project(
  learner: Learner,
  optimizer: optax.GradientTransformation,
  batch: Batch,
  slices: Slices,
  mesh: Mesh,
  accumulate: int = 1,
) -> Projection:
  """Compiles the training step of a run for slices of TPUs and reads the program; a batch that does not fit is reduced.

  Args:
    learner, optimizer: As for `fit`.
    batch: A global batch: of all hosts.
    slices: The slices.
    mesh: A mesh over their devices.
    accumulate: Parts of the batch, as for `make_train_step`.

  Raises:
    ValueError: if the devices do not divide the batch.
  """
  rows = jax.tree.leaves(batch)[0].shape[0]
  with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
    sharing = device_count() * accumulate
    if rows % sharing:
      given = f"the {device_count()} devices of {slices.name}" + f" and {accumulate} parts" * (accumulate > 1)
      raise ValueError(f"expected a batch divisible by {given}, got {rows} rows")
    before = shapes(learner, optimizer, batch)

  def compiled(some):
    return _compiled(learner, optimizer, before, with_rows(batch, some), mesh, slices, accumulate)

  first = compiled(rows)
  largest = None if first.fits else _largest(compiled, rows, sharing, first)
  with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
    step = make_train_step(learner, optimizer, accumulate)
    operations = flops(step, before, with_rows(batch, rows), in_bfloat16=True) / mesh.size
  return first._replace(operations=operations, largest=largest)


def _compiled(learner, optimizer, before, batch, mesh, slices, accumulate) -> Projection:
  """The `Projection` of a batch, without its operations."""
  began, rows = time.perf_counter(), jax.tree.leaves(batch)[0].shape[0]
  memory = slices.chip.memory
  before, batch = placed(before, batch, mesh)
  sizes = [share(part) for part in (before.params, before.optimizer_state, batch)]
  try:
    compiled = compile_step(learner, optimizer, before, batch, mesh, accumulate)
  except jax.errors.JaxRuntimeError as error:
    used = USED.search(str(error))
    if "RESOURCE_EXHAUSTED" not in str(error) or used is None:
      raise
    temporary, memory = (math.ceil(float(used[i]) * UNITS[used[i + 1]]) for i in (1, 3))
    seconds = time.perf_counter() - began
    return Projection(slices, rows, *sizes, None, memory, temporary + sum(sizes), None, 0.0, 0, (), 0, seconds)
  seconds, found = time.perf_counter() - began, cast(Any, compiled.memory_analysis())
  program = read_program(compiled.as_text() or "", mesh.shape)
  temporary = found.temp_size_in_bytes + max(0, found.output_size_in_bytes - found.alias_size_in_bytes)
  temporary += found.generated_code_size_in_bytes
  return Projection(
    slices, rows, *sizes, temporary, memory, found.argument_size_in_bytes + temporary, None, 0.0,
    program.cycles, program.collectives, program.unknown_loops, seconds,
  )  # fmt: skip


def _largest(compiled, rows: int, devices: int, first: Projection) -> int | None:
  """The largest number of rows found to fit in a few compiles, below one that does not; None if none does."""
  fits, too_many = 0, rows // devices
  fixed = first.parameters + first.optimizer_state
  guess = too_many * (first.memory - fixed) / max(first.needed - fixed, 1)
  for _ in range(MOST_COMPILES):
    if too_many - fits <= max(1, too_many // 32):
      break
    one = min(max(int(guess), fits + 1), too_many - 1)
    found = compiled(one * devices)
    fits, too_many = (one, too_many) if found.fits else (fits, one)
    guess = (fits + too_many) / 2
  return fits * devices or None
