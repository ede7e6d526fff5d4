"""Public functions of arrays and numbers: what they are given, what they give in NumPy, and how arguments go wrong."""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import oracles

from metajax import compose, evaluate, losses, predictors
from metajax.augment.palette import from_palette, to_palette
from metajax.augment.patches import patchify, unpatchify
from metajax.evaluate.probes import neighbor_classes
from metajax.types import Examples

ROWS, WAYS, WIDTH = 6, 3, 4


class Function(NamedTuple):
  """One of the public functions.

  Attributes:
    call: of the arguments, by name.
    right: what is right for them, in NumPy; raises `Invalid` where nothing is.
    arguments: `{name: make(rng)}` of arguments that are fine.
  """

  call: Callable
  right: Callable
  arguments: dict[str, Callable]


def normal(*shape):
  return lambda rng: rng.standard_normal(shape, np.float32)


def labels(*shape, ways=WAYS):
  """One-hot rows of which some are padding."""

  def make(rng):
    rows = np.eye(ways, dtype=np.float32)[rng.integers(ways, size=shape)]
    return np.where(rng.random((*shape, 1)) < 0.15, 0, rows).astype(np.float32)

  return make


def integers(high, *shape, low=0):
  return lambda rng: rng.integers(low, high, shape).astype(np.int32)


def above_0(*shape):
  return lambda rng: rng.uniform(0.1, 2, shape).astype(np.float32) if shape else float(rng.uniform(0.1, 2))


def share(*shape):
  return lambda rng: rng.random(shape, np.float32)


def weights(*shape):
  return lambda rng: (rng.random(shape) * (rng.random(shape) > 0.2)).astype(np.float32)


def maybe(make):
  return lambda rng: make(rng) if rng.random() < 0.5 else None


def owners(rng):
  return rng.permutation(np.arange(ROWS) % WAYS).astype(np.int32)


def score(scores):
  found = evaluate.mean_and_ci(scores)
  return found.mean, found.ci95


def classified(classes, inputs, labels):
  found = evaluate.zero_shot(classes, Examples(inputs, labels))
  return found.cosines, found.top_1.mean


def found_both_ways(images, texts, owner):
  found = evaluate.retrieval(images, texts, owner, at=(1,))
  return found["text_to_image"][1].mean, found["image_to_text"][1].mean


def voted(known, labels, asked, k):
  return neighbor_classes(Examples(known, labels), asked, [k])[k]


def _present(log_prob, rows):
  return log_prob[rows[:, 1:] >= 0]


COMPARED = {"support": normal(ROWS, WIDTH), "labels": labels(ROWS), "queries": normal(5, WIDTH)}
TOWERS = {"first": normal(ROWS, WIDTH), "second": normal(ROWS, WIDTH), "scale": above_0()}
PAIRWISE = {"distances": above_0(ROWS, ROWS), "labels": labels(ROWS), "margin": above_0()}
WEIGHTS = {"weights": maybe(weights(ROWS))}
TOKENS = {"features": normal(ROWS, WIDTH), "embedding": normal(9, WIDTH), "labels": integers(9, ROWS, low=-1)}
CLASSIFIED = {"logits": normal(ROWS, WAYS), "labels": labels(ROWS)}

_TABLE = {
  losses: {
    "cross_entropy": CLASSIFIED,
    "accuracy": CLASSIFIED,
    "mse": {"scores": normal(ROWS, WAYS), "labels": labels(ROWS)},
    "row_weights": {"labels": labels(ROWS)},
    "binary_cross_entropy": {"logits": normal(ROWS), "labels": labels(ROWS, ways=2)},
    "batch_cross_entropy": {"logits": normal(ROWS, ROWS), "labels": labels(ROWS)},
    "triplet_margin": {**dict.fromkeys(("anchor", "positive", "negative"), normal(ROWS, WIDTH)), "margin": above_0()},
    "batch_hard": PAIRWISE,
    "batch_semi_hard": PAIRWISE,
    "squared_error": dict.fromkeys(("outputs", "targets"), normal(ROWS, 2)),
    "masked_reconstruction": {
      **dict.fromkeys(("reconstructed", "patches"), normal(2, 4, WIDTH)),
      "masked": weights(2, 4),
    },
    "normalized_patches": {"patches": normal(2, 4, WIDTH)},
    "info_nce": TOWERS | WEIGHTS,
    "siglip": TOWERS | {"bias": normal()} | WEIGHTS,
    "nt_xent": {"embeddings": normal(ROWS, WIDTH), "temperature": above_0()} | WEIGHTS,
    "supervised_contrastive": {"embeddings": normal(ROWS, WIDTH), "labels": labels(ROWS), "temperature": above_0()}
    | WEIGHTS,
    "logit_scale": {"log_scale": normal()},
    "linear_cross_entropy": TOKENS | WEIGHTS,
    "linear_log_prob": TOKENS,
  },
  predictors: {
    "ridge_logits": COMPARED | {"l2": above_0()},
    "centroid_logits": COMPARED,
    "centroid_cosines": COMPARED,
    "nearest_logits": COMPARED,
    "attention_logits": COMPARED | {"scale": above_0()},
    "attention": {"scores": normal(2, ROWS), "labels": labels(ROWS)},
    "class_means": {"support": normal(ROWS, WIDTH), "labels": labels(ROWS)},
    "largest_by_way": {"scores": normal(5, ROWS), "labels": labels(ROWS)},
    "cosines": {"first": normal(ROWS, WIDTH), "second": normal(5, WIDTH)},
    "squared_distances": {"first": normal(ROWS, WIDTH), "second": normal(5, WIDTH)},
    "without_empty_ways": {"logits": normal(5, WAYS), "labels": labels(ROWS)},
  },
  compose: {"unit_rows": {"features": normal(ROWS, WIDTH)}},
}
FUNCTIONS = {
  name: Function(getattr(module, name), getattr(oracles, name), arguments)
  for module, rows in _TABLE.items()
  for name, arguments in rows.items()
} | {
  "supervised_contrastive, integers": Function(
    losses.supervised_contrastive,
    oracles.supervised_contrastive,
    {"embeddings": normal(ROWS, WIDTH), "labels": integers(3, ROWS, low=-1), "temperature": above_0()} | WEIGHTS,
  ),
  "mean_and_ci": Function(score, oracles.mean_and_ci, {"scores": normal(ROWS)}),
  "ratio_with_interval": Function(
    lambda **given: evaluate.ratio_with_interval(**given).mean,
    oracles.ratio_with_interval,
    {"totals": normal(ROWS), "counts": above_0(ROWS)},
  ),
  "zero_shot": Function(
    classified,
    oracles.zero_shot,
    {"classes": normal(WAYS, WIDTH), "inputs": normal(ROWS, WIDTH), "labels": integers(WAYS, ROWS)},
  ),
  "retrieval": Function(
    found_both_ways,
    oracles.retrieval,
    {"images": normal(WAYS, WIDTH), "texts": normal(ROWS, WIDTH), "owner": owners},
  ),
  "neighbor_classes": Function(
    voted,
    oracles.nearest_classes,
    {
      "known": normal(ROWS, WIDTH),
      "labels": integers(WAYS, ROWS),
      "asked": normal(5, WIDTH),
      "k": lambda rng: 3,
    },
  ),
  "patchify": Function(patchify, oracles.patchify, {"images": normal(2, 4, 6, 3), "patch": lambda rng: 2}),
  "unpatchify": Function(unpatchify, oracles.unpatchify, {"patches": normal(2, 9, 12), "patch": lambda rng: 2}),
  "to_palette": Function(
    lambda images, palette: to_palette(images, palette, 3),
    oracles.to_palette,
    {"images": share(2, 3, 3, 2), "palette": share(5, 2)},
  ),
  "bigram": Function(
    lambda **rows: _present(evaluate.bigram(**rows, vocab_size=5).log_prob, rows["test"]),
    oracles.bigram,
    dict.fromkeys(("train", "validation", "test"), integers(5, 2, 6)),
  ),
  "from_palette": Function(from_palette, oracles.from_palette, {"tokens": integers(8, 2, 9), "palette": normal(8, 3)}),
}


def _changed(value):
  """Changes the first value of an array to another one."""

  def change(x):
    x = np.array(x)
    x.reshape(-1)[:1] = value
    return x

  return change


ARRAYS = {
  "a NaN": _changed(np.nan),
  "an infinity": _changed(np.inf),
  "minus infinity": _changed(-np.inf),
  "minus one": _changed(-1),
  "a two": _changed(2),
  "a half": _changed(0.5),
  "a huge one": _changed(1e30),
  "all NaN": lambda x: np.full_like(np.asarray(x), np.nan),
  "zeros": np.zeros_like,
  "ones": np.ones_like,
  "negative": np.negative,
  "integers": lambda x: np.asarray(x).astype(np.int32),
  "small unsigned integers": lambda x: np.asarray(x).astype(np.uint8),
  "numbers of classes": lambda x: np.asarray(x).argmax(-1),
  "numbers in a column": lambda x: np.asarray(x).argmax(-1)[..., None],
  "booleans": lambda x: np.asarray(x) > 0,
  "complex numbers": lambda x: np.asarray(x).astype(np.complex64),
  "objects": lambda x: np.asarray(x).astype(object),
  "texts": lambda x: np.asarray(x).astype(str),
  "float16": lambda x: np.asarray(x).astype(np.float16),
  "bfloat16": lambda x: jnp.asarray(x).astype(ml_dtypes.bfloat16),
  "float64": lambda x: np.asarray(x).astype(np.float64),
  "a list": lambda x: np.asarray(x).tolist(),
  "no rows": lambda x: x[:0],
  "no columns": lambda x: x[..., :0],
  "one row": lambda x: x[:1],
  "one row fewer": lambda x: x[:-1],
  "one column": lambda x: x[..., :1],
  "one column fewer": lambda x: x[..., :-1],
  "flat": lambda x: np.asarray(x).reshape(-1),
  "an axis more": lambda x: x[None],
  "a last axis more": lambda x: x[..., None],
  "transposed": lambda x: np.asarray(x).T,
  "one number": lambda x: np.asarray(x).reshape(-1)[0],
  "nothing": lambda x: None,
  "a text": lambda x: "soft" if x is None else str(x)[:9],
  "a set of names": lambda x: {"x": x},
}
NUMBERS = {
  **{f"the number {x!r}": lambda _, x=x: x for x in (0, -1, -0.5, 1, 3, 1e-30, 1e30, 10**23, np.nan, np.inf, -np.inf)},
  **{f"{x!r}": lambda _, x=x: x for x in (None, True, "1", "soft", "inf", [1.0], {}, 1j, b"1")},
  "an array of it": lambda x: jnp.asarray(x),
  "a float16 of it": lambda x: np.float16(x),
  "a row of it": lambda x: np.array([x]),
  "the function": lambda x: abs,
}


def ways_to_go_wrong(value) -> dict[str, Callable]:
  return ARRAYS if np.ndim(value) else NUMBERS
