"""Learning to learn from few examples, and learning representations without labels, as pure JAX functions.

Start with `metajax.types`. `metajax.data` (TensorFlow) and `metajax.report` (figures) must be imported explicitly.
"""

import importlib

from metajax import adapt, checkpoint, compose, evaluate, learners, losses, mesh, networks, predictors, train, types
from metajax.adapt import gradient_steps
from metajax.checkpoint import Checkpoints
from metajax.evaluate import few_shot_accuracy, few_shot_mse
from metajax.mesh import make_mesh
from metajax.pixels import images_to_float
from metajax.train import fit
from metajax.types import Cache, Decoded, Episode, Examples, Learner, Network, Padded, Pair
from metajax.version import package_version as _package_version

__version__ = _package_version()

_ON_FIRST_USE = {"load": "metajax.inference", "load_exported": "metajax.export"}  # `import metajax` stays quick

__all__ = [
  "Cache",
  "Checkpoints",
  "Decoded",
  "Episode",
  "Examples",
  "Learner",
  "Network",
  "Padded",
  "Pair",
  "__version__",
  "adapt",
  "checkpoint",
  "compose",
  "evaluate",
  "few_shot_accuracy",
  "few_shot_mse",
  "fit",
  "gradient_steps",
  "images_to_float",
  "learners",
  "load",
  "load_exported",
  "losses",
  "make_mesh",
  "mesh",
  "networks",
  "predictors",
  "train",
  "types",
]


def __getattr__(name: str):
  if name in _ON_FIRST_USE:
    return getattr(importlib.import_module(_ON_FIRST_USE[name]), name)
  raise AttributeError(f"module 'metajax' has no attribute {name!r}")
