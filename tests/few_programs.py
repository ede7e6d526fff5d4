"""Experiments' commands with fewer programs to compile and less to draw: both have tests of their own."""

import functools
import zlib

import drawn_by_numpy
import jax
import numpy as np
import one_block
import params_by_numpy
import pytest

from experiments import fine_tune
from experiments.families.few_shot import tasks as few_shot
from experiments.families.image_text import evaluators as transfer
from experiments.families.image_text import experiment as image_text
from experiments.families.pretext import evaluators as pretext
from experiments.families.representation import evaluators, experiment, figures
from metajax import checks, images_to_float, train
from metajax.checkpoint import checkpoints
from metajax.report import drawing
from metajax.train import _loop


def use(patch: pytest.MonkeyPatch):
  """Every command run from now on starts from numbers of NumPy's, and checks and draws by NumPy."""
  patch.setattr(few_shot, "episodes", drawn_by_numpy.episodes)
  patch.setattr(experiment, "train_batches", drawn_by_numpy.train_batches)
  patch.setattr(fine_tune, "train_batches", drawn_by_numpy.train_batches)
  patch.setattr(image_text, "image_texts", drawn_by_numpy.image_texts)
  patch.setattr(checks.arrays, "_worst", _worst)
  patch.setattr(checkpoints, "fingerprints", _fingerprints)
  begin = functools.partial(_start, {})
  for module in (evaluators, transfer, _loop):
    patch.setattr(module, "start", begin)
  patch.setattr(drawing, "DOTS_PER_INCH", 32)
  patch.setattr(figures, "IMAGES", 2)
  patch.setattr(figures, "VIEWS", 1)
  patch.setattr(pretext, "SHOWN", 2)
  one_block.use(patch)


def _start(known, learner, optimizer, batch, seed=0):
  """As `metajax.train.start`, from params that NumPy draws."""
  key = (learner.init, seed)
  if key not in known:
    known[key] = params_by_numpy.start(learner.init, images_to_float(batch), seed=seed)
  return train.start(learner._replace(init=lambda *_: known[key]), optimizer, batch, seed)


def _worst(leaves):
  kind = lambda x: 2 if np.isnan(x).any() else int(np.isinf(x).any())
  return np.array([kind(np.asarray(x)) for x in leaves], np.int8)


def _fingerprints(arrays):
  """As far as a test needs them: of the bytes of each array; of a traced one nothing."""
  there = {name: x for name, x in arrays.items() if not isinstance(x, jax.core.Tracer)}
  return {name: np.uint32(zlib.crc32(np.asarray(x).tobytes())) for name, x in there.items()}
