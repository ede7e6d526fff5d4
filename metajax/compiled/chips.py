"""Published values of TPU chips."""

from typing import NamedTuple


class Chip(NamedTuple):
  """What a JAX device of a TPU can do, by the published specification of its chip.

  Attributes:
    name: Short name, as in the name of a slice.
    flops: Multiplications and additions in bfloat16 a second.
    memory: Bytes of memory that a program may use, which the compiler says.
    sends: Bytes a second that it sends to the other chips of its slice, over all links together.
    clock: Cycles a second, from the rate of bfloat16 and the number of its multipliers.
    cores: Cores of the chip that are one device.
  """

  name: str
  flops: float
  memory: int
  sends: float
  clock: float
  cores: int = 1


BETWEEN_SLICES = 25e9  # bytes a second that a host sends to other slices: a network interface of 200 Gbit/s
CHIPS_OF_A_HOST = 4
GIB = 2**30
GPUS = {  # multiplications and additions in bfloat16 a second, dense, by a part of JAX's name of the kind of device
  "A100": 312e12,
  "H100 PCIe": 756e12,
  "H100": 989e12,
  "H200": 989e12,
  "B200": 2250e12,
  "L40S": 362e12,
  "L4": 121e12,
}
# By JAX's name of the kind of device; a chip of v4 is two devices.
CHIPS = {
  "TPU v4": Chip("v4", 137.5e12, int(15.25 * GIB), 150e9, 1.05e9),
  "TPU v5 lite": Chip("v5e", 197e12, int(15.75 * GIB), 200e9, 1.5e9),
  "TPU v5": Chip("v5p", 459e12, int(95.74 * GIB), 600e9, 1.75e9, 2),
  "TPU v6 lite": Chip("v6e", 918e12, int(31.25 * GIB), 400e9, 1.75e9),
}


def peak_flops(kind: str) -> float | None:
  """Returns the published operations in bfloat16 a second of a device, by JAX's name of its kind; None if unknown."""
  if kind in CHIPS:
    return CHIPS[kind].flops
  return next((peak for name, peak in GPUS.items() if name in kind), None)
