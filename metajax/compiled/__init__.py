"""Programs compiled for machines that are not there: what they need, send and take."""

from metajax.compiled.chips import Chip, peak_flops
from metajax.compiled.flops import flops
from metajax.compiled.program import Collective, Program, read_program
from metajax.compiled.projection import Projection, project
from metajax.compiled.step import compile_step, shapes, with_rows
from metajax.compiled.topology import Slices, slices_of

__all__ = [
  "Chip",
  "Collective",
  "Program",
  "Projection",
  "Slices",
  "compile_step",
  "flops",
  "peak_flops",
  "project",
  "read_program",
  "shapes",
  "slices_of",
  "with_rows",
]
