"""Checks of public arguments: errors state the expected and the given value, before anything is compiled.

Traced values are unknown, so only their shapes and types are checked.
"""

from metajax.checks.arrays import (
  REAL,
  finite,
  floating,
  integers,
  is_bytes,
  not_bytes,
  not_finite,
  real,
  to_numpy,
  values,
  weights,
)
from metajax.checks.labels import not_padded, one_hot, shares
from metajax.checks.messages import SHOWN, counted, describe, is_concrete
from metajax.checks.outside import local_path, parse_json, repeated
from metajax.checks.scalars import (
  choice,
  count,
  flag,
  flags,
  function,
  in_range,
  logger,
  positive,
  record,
  scalar,
  text,
)

__all__ = [
  "REAL",
  "SHOWN",
  "choice",
  "count",
  "counted",
  "describe",
  "finite",
  "flag",
  "flags",
  "floating",
  "function",
  "in_range",
  "integers",
  "is_bytes",
  "is_concrete",
  "local_path",
  "logger",
  "not_bytes",
  "not_finite",
  "not_padded",
  "one_hot",
  "parse_json",
  "positive",
  "real",
  "record",
  "repeated",
  "scalar",
  "shares",
  "text",
  "to_numpy",
  "values",
  "weights",
]
