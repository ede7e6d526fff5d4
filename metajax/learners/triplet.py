"""Triplet networks (Hoffer and Ailon 2014, arXiv:1412.6622; Schroff et al. 2015, arXiv:1503.03832)."""

import functools
from typing import Literal

import jax.numpy as jnp

from metajax.compose.combinators import check_networks
from metajax.learners._checks import (
  check_embedding,
  check_examples,
  check_padded_rows,
  check_positives,
  check_predictor,
)
from metajax.learners._comparison import embed_together
from metajax.losses import batch_hard, batch_semi_hard, triplet_margin
from metajax.losses.classification import right_if_known
from metajax.losses.metric import hinge, relations
from metajax.predictors import nearest_centroid, squared_distances
from metajax.similarity import unit_rows
from metajax.types import Examples, Learner, Network, Predictor

Negatives = Literal["given", "hard", "semi_hard"]
PARTS = ("anchor", "positive", "negative")
FOUND = {"hard": batch_hard, "semi_hard": batch_semi_hard}  # in a batch, by its distances


def triplet(
  network: Network,
  *,
  negatives: Negatives = "semi_hard",
  margin: float | str = 0.2,
  normalize: bool = True,
  predictor: Predictor = nearest_centroid,
) -> Learner:
  """Learns an embedding in which an image is nearer to any of its class than to any other, by a margin:

      max(0, |f(a) - f(p)|^2 - |f(a) - f(n)|^2 + margin)

  over given triplets, or over those that are found in a labeled batch: every row with its farthest positive and
  nearest negative ("hard", arXiv:1703.07737), or every pair of one class with its nearest negative that is farther than
  the positive ("semi_hard"). A network with batch norm is trained on the statistics of the whole batch and predicts
  with its running statistics.

  A batch is, for "given", `{"anchor": ..., "positive": ..., "negative": ...}` of `[n, ...]` (`data.triplets`), and
  otherwise `Examples` with several rows of each class (`data.balanced`).

  Args:
    network: inputs `[n, ...]` to embeddings `[n, d]`.
    negatives: "given", "hard" or "semi_hard".
    margin: above 0, or "soft" for `log(1 + exp(...))` without one.
    normalize: embeddings of length 1, as in the paper.
    predictor: `embed -> predict`: `nearest_centroid`, or `nearest_neighbor`.

  Raises:
    TypeError: if it is no Network, or `predictor` no function.
    ValueError: if `negatives` or `margin` is none of these; at init, if the batch is of another type or has no two rows
      of one class, the network's outputs are not `[n, d]`, or rows are padded and it keeps batch statistics.
  """
  check_networks(network=network)
  check_predictor(predictor)
  if negatives not in ("given", "hard", "semi_hard"):
    raise ValueError(f"expected negatives to be 'given', 'hard' or 'semi_hard', got {negatives!r}")
  hinge(margin)
  finish = unit_rows if normalize else _as_it_is
  if negatives == "given":
    init, loss = _init_by_triplets, _loss_of_triplets
  else:
    init, loss = _init_by_examples, functools.partial(_loss_of_batch, FOUND[negatives])

  def embed(params, state, inputs):
    return finish(network.apply(params, state, inputs, train=False)[0])

  own_init, own_loss = functools.partial(init, network), functools.partial(loss, network, finish, margin)
  return Learner(own_init, own_loss, embed, predictor(embed))


def _init_by_triplets(network, key, batch):
  if not (isinstance(batch, dict) and set(batch) == set(PARTS)):
    got = sorted(batch) if isinstance(batch, dict) else f"one of type {type(batch).__name__}"
    raise ValueError(f"expected a batch of triplets, a dictionary of {', '.join(PARTS)}, got {got}")
  params, state = network.init(key, batch["anchor"])
  check_embedding(network, params, state, batch["anchor"])
  return params, state


def _init_by_examples(network, key, batch):
  check_examples(batch)
  params, state = network.init(key, batch.inputs)
  check_padded_rows(state, batch)
  check_positives(batch)
  check_embedding(network, params, state, batch.inputs)
  return params, state


def _loss_of_triplets(network, finish, margin, params, state, batch, key):
  embedded, state = embed_together(network, params, state, [batch[part] for part in PARTS], key)
  three = [finish(part) for part in embedded]
  near, far = (jnp.square(three[0] - other).sum(-1) for other in three[1:])
  right = right_if_known(near < far, jnp.isnan(near) | jnp.isnan(far))
  return triplet_margin(*three, margin), (state, {"accuracy": jnp.mean(right)})


def _loss_of_batch(found, network, finish, margin, params, state, batch: Examples, key):
  embedded, state = network.apply(params, state, batch.inputs, train=True, key=key)
  embedded = finish(embedded)
  distances = squared_distances(embedded, embedded)
  return found(distances, batch.labels, margin), (state, {"accuracy": _nearest_is_right(distances, batch.labels)})


def _as_it_is(embedded):
  return embedded


def _nearest_is_right(distances, labels):
  """The share of labeled rows whose nearest other row is of their class."""
  same, other = relations(distances, labels)
  valid = same.any(-1) & other.any(-1)
  near, far = (jnp.where(which, distances, jnp.inf).min(-1) for which in (same, other))
  right = right_if_known(near < far, jnp.isnan(near) | jnp.isnan(far))
  return jnp.sum(jnp.where(valid, right, 0)) / jnp.maximum(valid.sum(), 1)
