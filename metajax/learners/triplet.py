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
FOUND = {"hard": batch_hard, "semi_hard": batch_semi_hard}  # losses over mined triplets, from distances


def triplet(
  network: Network,
  *,
  negatives: Negatives = "semi_hard",
  margin: float | str = 0.2,
  normalize: bool = True,
  predictor: Predictor = nearest_centroid,
) -> Learner:
  """Triplet networks: learn an embedding that separates classes by a margin (arXiv:1412.6622, arXiv:1503.03832).

      max(0, |f(a) - f(p)|^2 - |f(a) - f(n)|^2 + margin)

  Triplets are given, or mined in a labeled batch: each row with its farthest positive and nearest negative ("hard",
  arXiv:1703.07737), or each same-class pair with its nearest negative that is farther than the positive ("semi_hard").
  A network with batch norm is trained on the statistics of the full batch and predicts with running statistics.

  A batch is, for "given", `{"anchor": ..., "positive": ..., "negative": ...}` of `[n, ...]` (`data.triplets`), else
  `Examples` with several rows per class (`data.balanced`).

  Args:
    network: Inputs `[n, ...]` to embeddings `[n, d]`.
    negatives: Source of the triplets, "given", "hard" or "semi_hard".
    margin: Number above 0, or "soft" for `log(1 + exp(...))` without a margin.
    normalize: Whether embeddings have length 1, as in the paper.
    predictor: Few-shot predictor `embed -> predict`: `nearest_centroid`, or `nearest_neighbor`.

  Returns:
    A Learner whose `embed` returns `[n, d]`; `predict` returns logits `[n, ways]`.

  Raises:
    TypeError: If `network` is not a Network, or `predictor` not a function.
    ValueError: If `negatives` or `margin` is invalid; at init, if the batch has another type or no positive or negative
      pair, the network's outputs are not `[n, d]`, or rows are padded and it keeps batch statistics.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> from metajax import Examples, learners, networks
    >>> learner = learners.triplet(networks.mlp((4,), 2), negatives="hard")
    >>> batch = Examples(jnp.ones((6, 4)), jnp.tile(jnp.eye(3), (2, 1)))  # two rows of each of 3 classes
    >>> params, state = jax.eval_shape(learner.init, jax.random.key(0), batch)
    >>> jax.eval_shape(learner.embed, params, state, batch.inputs).shape
    (6, 2)
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
  """The fraction of labeled rows whose nearest other row is of the same class."""
  same, other = relations(distances, labels)
  valid = same.any(-1) & other.any(-1)
  near, far = (jnp.where(which, distances, jnp.inf).min(-1) for which in (same, other))
  right = right_if_known(near < far, jnp.isnan(near) | jnp.isnan(far))
  return jnp.sum(jnp.where(valid, right, 0)) / jnp.maximum(valid.sum(), 1)
