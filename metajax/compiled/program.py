"""Reads a compiled program: its collectives, and the cycles that XLA expects of it."""

import functools
import re
from collections import defaultdict
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

KINDS = "all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter|collective-broadcast"
BYTES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "s32": 4, "u32": 4, "f32": 4, "s64": 8, "u64": 8, "f64": 8}
CALLS = re.compile(r"(?:calls|to_apply|body|condition|true_computation|false_computation)=%([\w.-]+)")
BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")
WHILE = re.compile(r"condition=%([\w.-]+), body=%([\w.-]+)")


class Collective(NamedTuple):
  """A collective operation of a program.

  Attributes:
    kind: Such as "all-reduce".
    size: Bytes of its result on one device.
    times: How often a step runs it.
    devices: Devices that take part together.
    axes: Axes of the mesh that it goes along.
  """

  kind: str
  size: int
  times: int
  devices: int
  axes: tuple[str, ...]

  @property
  def sent(self) -> int:
    """Bytes that a device sends in a step, around a ring."""
    n = self.devices
    part = {
      "all-reduce": 2 * (n - 1) / n,
      "all-gather": (n - 1) / n,
      "reduce-scatter": n - 1,
      "all-to-all": (n - 1) / n,
    }
    return round(self.times * self.size * part.get(self.kind, 1))


class Program(NamedTuple):
  """What the text of a compiled program says.

  Attributes:
    collectives: Its collective operations.
    cycles: Cycles of a step that XLA expects on a TPU, over all iterations of its loops; 0 on other platforms.
    unknown_loops: Loops whose number of iterations is not in the text, counted once.
  """

  collectives: tuple[Collective, ...]
  cycles: int
  unknown_loops: int


def read_program(text: str, axes: Mapping[str, int] | None = None) -> Program:
  """Reads the text of a compiled program.

  Args:
    text: `compiled.as_text()`.
    axes: Sizes of the axes of the mesh that it is compiled for, in order; without them collectives have no axes.
  """
  parts = _computations(text)
  times, unknown = _times(parts)
  found, chains, cycles = [], set(), 0
  for name, part in parts.items():
    cycles += times[name] * sum(int(n) for n in re.findall(r'"estimated_cycles":"(\d+)"', part))
    for shape, kind, begun, rest in re.findall(rf" = (.*?) ({KINDS})(-start)?\((.*)", part):
      chain = re.search(r'channel_id=(\d+),.*chain_id="(\d+)"', rest)
      if chain and chain.groups() in chains:
        continue  # already counted: a TPU overlaps a collective with a chain of operations, each of which names it
      chains |= {chain.groups()} if chain else set()
      size = _size(shape, of_results=begun and kind != "all-reduce")
      devices, along = _along(rest, tuple((axes or {}).items()))
      found.append(Collective(kind, size, times[name], devices, along))
  return Program(tuple(found), cycles, unknown)


def _computations(text):
  """`{name: text}` of the functions of a program; the entry is "ENTRY"."""
  parts = {}
  for part in re.split(r"\n(?=(?:ENTRY )?%[\w.-]+ \()", text):
    if head := re.match(r"(ENTRY )?%([\w.-]+) \(", part):
      parts["ENTRY" if head[1] else head[2]] = part
  return parts


def _times(parts):
  """How often a step runs each function, and the number of loops of unknown length."""
  callers, unknown = defaultdict(list), 0
  for name, part in parts.items():
    loops = {}
    for condition, body in WHILE.findall(part):
      trips = [int(n) for n in re.findall(r" = [su]32\[\][^=]*? constant\((\d+)\)", parts[condition])]
      unknown += not trips
      loops |= dict.fromkeys((condition, body), max(trips, default=1))
    called = CALLS.findall(part) + [n.strip(" %") for some in BRANCHES.findall(part) for n in some.split(",")]
    for one in called:
      callers[one].append((name, loops.get(one, 1)))

  @functools.cache
  def of(name):
    return 1 if name == "ENTRY" else sum(of(caller) * often for caller, often in callers[name])

  return {name: of(name) for name in parts}, unknown


def _size(shape, of_results):
  """Bytes of the arrays of a shape; with `of_results` only of its second half, the results."""
  arrays = re.findall(r"\b([a-z]+\d*)\[([\d,]*)\]", shape)
  if of_results:
    arrays = [(kind, sizes) for kind, sizes in arrays if sizes]
    arrays = arrays[len(arrays) // 2 :]
  return sum(BYTES[kind] * int(np.prod([int(n) for n in sizes.split(",") if n])) for kind, sizes in arrays)


@functools.cache
def _along(rest, axes):
  """The number of devices that take part in a collective together, and the axes of the mesh along which they differ."""
  names, shape = [name for name, _ in axes], [size for _, size in axes]
  group = _group(rest, int(np.prod(shape)))
  if not names:
    return len(group), ()
  places = np.stack(np.unravel_index(group, shape))
  along = tuple(name for name, place in zip(names, places, strict=True) if len(set(place.tolist())) > 1)
  return len(group), along


def _group(rest, number):
  """The devices that take part in a collective with the first one of them."""
  if pairs := re.search(r"source_target_pairs=\{\{([\d,{}]*)\}\}", rest):
    return sorted({int(n) for n in pairs[1].split("},{")[0].split(",")})
  if groups := re.search(r"replica_groups=\{\{([\d,]*)\}", rest):
    return [int(n) for n in groups[1].split(",")]
  if iota := re.search(r"replica_groups=\[(\d+),(\d+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?", rest):
    dims = [int(n) for n in iota[3].split(",")]
    order = [int(n) for n in iota[4].split(",")] if iota[4] else range(len(dims))
    return np.arange(number).reshape(dims).transpose(order).reshape(int(iota[1]), int(iota[2]))[0].tolist()
  return list(range(number))
