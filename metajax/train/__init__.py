"""Training: the train step, the training loop, and resuming after an interruption."""

from metajax.train.averaging import averaged, with_ema
from metajax.train.fit import Stopped, fit, restore
from metajax.train.nothing_learned import BesideChance, nothing_learned
from metajax.train.optimizers import (
  adamw,
  is_weight,
  keep_params_below,
  lars,
  scale_learning_rate,
  warmup_cosine,
)
from metajax.train.seeds import for_seeds, seeds_in_parallel
from metajax.train.step import TrainState, each_seed, make_train_step, start

__all__ = [
  "BesideChance",
  "Stopped",
  "TrainState",
  "adamw",
  "averaged",
  "each_seed",
  "fit",
  "for_seeds",
  "is_weight",
  "keep_params_below",
  "lars",
  "make_train_step",
  "nothing_learned",
  "restore",
  "scale_learning_rate",
  "seeds_in_parallel",
  "start",
  "warmup_cosine",
  "with_ema",
]
