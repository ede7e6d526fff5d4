"""Every contrastive loss with a small batch, its slow form written from the paper, and every way to compute it."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np

from metajax.losses import info_nce, nt_xent, siglip, supervised_contrastive

WAYS = ("dense", "tiled", "sharded", "ring")
ROWS, WIDTH, CLASSES = 48, 5, 7
random = np.random.default_rng(0)
LABELS = random.integers(CLASSES, size=ROWS)
WEIGHTS = np.where(np.arange(ROWS) % 7 == 0, 0, random.uniform(0.5, 2, ROWS))


class Case(NamedTuple):
  """A loss of arrays and numbers that it can be differentiated by.

  Attributes:
    loss: `(*arguments, weights, labels, **how it is computed) -> scalar`.
    slow: `(*arguments, weights, labels) -> scalar`, row by row.
    numbers: its arguments that are numbers, which come after its towers.
    towers: how many.
  """

  loss: Callable
  slow: Callable
  towers: int
  numbers: tuple


def cosines(first, second):
  length = lambda x: np.sqrt(np.sum(np.square(x)))
  return [[sum(a * b) / (length(a) * length(b)) for b in second] for a in first]


def slow_info_nce(first, second, scale, weights, labels):
  logits, total = np.multiply(scale, cosines(first, second)), 0
  rows = [i for i in range(len(first)) if weights[i]]
  for i in rows:
    to_second = np.log(sum(np.exp(logits[i][j]) for j in rows)) - logits[i][i]
    to_first = np.log(sum(np.exp(logits[j][i]) for j in rows)) - logits[i][i]
    total += weights[i] * (to_second + to_first) / 2
  return total / sum(weights)


def slow_siglip(first, second, scale, bias, weights, labels):
  logits, total = np.multiply(scale, cosines(first, second)) + bias, 0
  rows = [i for i in range(len(first)) if weights[i]]
  for i in rows:
    for j in rows:
      sign = 1 if i == j else -1
      total += (weights[i] + weights[j]) / 2 * np.log(1 + np.exp(-sign * logits[i][j]))
  return total / sum(weights)


def slow_supervised_contrastive(embeddings, temperature, weights, labels):
  logits = np.divide(cosines(embeddings, embeddings), temperature)
  rows, total, weight = [i for i in range(len(embeddings)) if weights[i]], 0, 0
  for i in rows:
    others = [a for a in rows if a != i]
    positives = [p for p in others if labels[p] == labels[i]]
    if positives:
      each = [logits[i][p] - np.log(sum(np.exp(logits[i][a]) for a in others)) for p in positives]
      total, weight = total - weights[i] * np.mean(each), weight + weights[i]
  return total / weight


def slow_nt_xent(embeddings, temperature, weights, labels):
  return slow_supervised_contrastive(embeddings, temperature, weights, [i // 2 for i in range(len(embeddings))])


def slow_decoupled(embeddings, temperature, weights, labels):
  logits = np.divide(cosines(embeddings, embeddings), temperature)
  rows, total = [i for i in range(len(embeddings)) if weights[i] and weights[i ^ 1]], 0
  there = [a for a in range(len(embeddings)) if weights[a]]
  for i in rows:
    negatives = [a for a in there if a // 2 != i // 2]
    total += weights[i] * (np.log(sum(np.exp(logits[i][a]) for a in negatives)) - logits[i][i ^ 1])
  return total / sum(weights[i] for i in rows)


def with_labels(embeddings, temperature, weights, labels, **how):
  return supervised_contrastive(embeddings, labels, temperature, weights=weights, **how)


def without_labels(loss):
  return lambda *arguments, **how: loss(*arguments[:-2], weights=arguments[-2], **how)


LOSSES = {
  "info_nce": Case(without_labels(info_nce), slow_info_nce, 2, (7.0,)),
  "siglip": Case(without_labels(siglip), slow_siglip, 2, (7.0, -3.0)),
  "nt_xent": Case(without_labels(nt_xent), slow_nt_xent, 1, (0.2,)),
  "nt_xent, decoupled": Case(without_labels(partial(nt_xent, decoupled=True)), slow_decoupled, 1, (0.2,)),
  "supervised_contrastive": Case(with_labels, slow_supervised_contrastive, 1, (0.2,)),
}


def arguments_of(case: Case, rows: int = ROWS, width: int = WIDTH, seed: int = 0) -> tuple:
  """Its towers, related as those of a half-trained network are, and its numbers."""
  draws = np.random.default_rng(seed)
  common = draws.normal(size=(rows, width))
  towers = [common + draws.normal(size=(rows, width)) for _ in range(case.towers)]
  return (*towers, *case.numbers)
