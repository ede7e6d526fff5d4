"""Precision of matrix products and convolutions: one policy for all commands, by the backend.

| `--precision` | CPU | GPU | TPU |
|---|---|---|---|
| `auto` | `highest` | `default` | `default` |
| `highest` | float32 | float32 | float32 |
| `high` | float32 | tensorfloat32 | bfloat16_3x |
| `default` | float32 | tensorfloat32 | bfloat16 |

Sums of products, activations, parameters and optimizers are in float32 throughout, and what loses more than digits in
fewer bits (similarities, statistics of a batch norm that come from products) is computed in float32 in any case.
"""

from typing import Literal

import jax

from metajax.platforms import platform

Precision = Literal["auto", "highest", "high", "default"]
ARITHMETIC = {
  "cpu": {"highest": "float32", "high": "float32", "default": "float32"},
  "gpu": {"highest": "float32", "high": "tensorfloat32", "default": "tensorfloat32"},
  "tpu": {"highest": "float32", "high": "bfloat16_3x", "default": "bfloat16"},
}


def resolved(asked: Precision, backend: str | None = None) -> Precision:
  """The precision that is asked for, where "auto" is that of the backend: by default of `platform()`."""
  if asked != "auto":
    return asked
  return "highest" if (backend or platform()) == "cpu" else "default"


def set_precision(asked: Precision):
  """Sets the precision of matrix products and convolutions, in all programs traced from now on."""
  jax.config.update("jax_default_matmul_precision", resolved(asked))


def arithmetic() -> str:
  """What matrix products of float32 arrays are computed in, for the records, such as "tensorfloat32"."""
  asked = jax.config.jax_default_matmul_precision or "default"  # ty: ignore
  return ARITHMETIC.get(platform(), {}).get(asked, asked)
