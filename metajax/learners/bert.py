"""Pre-training of text by masked tokens and the next sentence (BERT, arXiv:1810.04805)."""

from functools import partial

import jax
import jax.numpy as jnp

from metajax import checks
from metajax.compose import linear
from metajax.compose.combinators import check_networks
from metajax.learners._checks import check_predictor
from metajax.learners.gpt import decoded_shapes, mean_features
from metajax.losses import accuracy, cross_entropy, linear_cross_entropy
from metajax.predictors import nearest_centroid
from metajax.types import Array, EmbedFn, Key, Learner, Network, Pair, Predictor

KEPT, RANDOM = 0.1, 0.1  # of the chosen tokens: shown as they are, replaced by any; the others are masked
_FOLLOWS = linear(2)


def bert(
  network: Network,
  vocab_size: int,
  *,
  next_sentence: bool = True,
  mask_rate: float = 0.15,
  predictor: Predictor = nearest_centroid,
) -> Learner:
  """BERT: learns to fill in masked tokens, and whether one segment of text follows another (arXiv:1810.04805).

      minimize  mean over masked tokens of -log p(token | both segments) + cross_entropy(head(features_0), follows)

  A batch is a `Pair` of integer tokens, `[n, a]` and `[n, b]`, padded with -1 at the end; the second segment of a row
  follows its first. For half of the rows, drawn anew each step, the second segment is another row's. Metrics hold the
  "bits" per masked token and the "next_sentence_accuracy", 0 to 1.

  Args:
    network: Tokens `[n, a + b + 3]` to `Decoded`, such as `networks.bert(vocab_size)`.
    vocab_size: Tokens of the network; the last four are the start and the end of text, padding and the mask.
    next_sentence: Whether to predict if the second segment follows.
    mask_rate: Share of tokens to predict, from 0 to below 1: 80% of them masked, 10% replaced by any, 10% as they are.
    predictor: Few-shot predictor on the embedding.

  Returns:
    A Learner whose `embed` takes tokens `[n, length]` and returns the mean `[n, d]` of their last, normalized features.

  Raises:
    TypeError: If `network` is not a Network, or `predictor` not a function.
    ValueError: If an argument is out of range; at init, if a batch is no `Pair` of two or more rows of text tokens.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> from metajax import Pair, learners, networks
    >>> learner = learners.bert(networks.bert(12, networks.Size(4, 1, 2)), vocab_size=12)
    >>> batch = Pair(jnp.zeros((8, 5), int), jnp.zeros((8, 4), int))
    >>> params, state = jax.eval_shape(learner.init, jax.random.key(0), batch)
    >>> jax.eval_shape(learner.embed, params, state, batch.first).shape
    (8, 4)
  """
  check_networks(network=network)
  check_predictor(predictor)
  _check_flags(vocab_size, next_sentence, mask_rate)

  def loss(params, state, batch, key):
    pair_key, mask_key, key = jax.random.split(key, 3)
    follows = jax.random.bernoulli(pair_key, 0.5, batch.first.shape[:1]) | (not next_sentence)
    pair = Pair(batch.first, jnp.where(follows[:, None], batch.second, jnp.roll(batch.second, 1, 0)))
    tokens, labels = _masked(mask_key, *_inputs(pair, vocab_size), vocab_size, mask_rate)
    decoded, state = network.apply(params["network"], state, tokens, train=True, key=key)
    value, metrics = _loss(params, decoded, labels if mask_rate else None, follows if next_sentence else None)
    return value, (state, metrics)

  def embed(params, state, inputs):
    tokens, real = _inputs(Pair(inputs, inputs[:, :0]), vocab_size)
    decoded, _ = network.apply(params["network"], state, tokens, train=False)
    return mean_features(decoded.features, real)

  return Learner(partial(_init, network, vocab_size), loss, embed, predictor(embed))


def _loss(params, decoded, labels: Array | None, follows: Array | None) -> tuple[Array, dict[str, Array]]:
  """The sum of both cross-entropies, without those of None, and the metrics."""
  value, metrics = jnp.zeros(()), {}
  if labels is not None:
    value = linear_cross_entropy(decoded.features, decoded.output_embedding, labels)
    metrics["bits"] = value / jnp.log(2)
  if follows is not None:
    logits, wanted = _answer(params, decoded), jax.nn.one_hot(follows.astype(jnp.int32), 2)
    value, metrics["next_sentence_accuracy"] = value + cross_entropy(logits, wanted), accuracy(logits, wanted)
  return value, metrics


def _init(network: Network, vocab_size: int, key: Key, batch: Pair):
  _check(batch, vocab_size)
  tokens = jnp.zeros(_inputs(batch, vocab_size)[0].shape, jnp.int32)
  params, state = network.init(key, tokens)
  decoded = decoded_shapes(network, params, state, tokens)
  if len(decoded.output_embedding) != vocab_size:
    raise ValueError(f"expected a network of {vocab_size} tokens, got one of {len(decoded.output_embedding)}")
  head, _ = _FOLLOWS.init(key, jnp.zeros((1, decoded.features.shape[-1])))
  return {"network": params, "head": head}, state


def next_sentence_logits(network: Network, vocab_size: int) -> EmbedFn:
  """Logits of a trained `bert`: `(params, state, Pair of tokens) -> [n, 2]`, of not following and following."""

  def answer(params, state, pair):
    tokens, _ = _inputs(pair, vocab_size)
    return _answer(params, network.apply(params["network"], state, tokens, train=False)[0])

  return answer


def _inputs(pair: Pair, vocab_size: int) -> tuple[Array, Array]:
  """The start of text, the first segment, an end, the second segment, an end; and where the text is."""
  start, end, padding = (vocab_size - i for i in (4, 3, 2))

  def column(token):
    return jnp.full((pair.first.shape[0], 1), token, jnp.int32)

  parts = [jnp.asarray(part).astype(jnp.int32) for part in pair]
  parts = parts if parts[1].shape[1] else parts[:1]
  tokens = [column(start), *(one for part in parts for one in (jnp.where(part == -1, padding, part), column(end)))]
  real = [column(0), *(one for part in parts for one in (part != -1, column(0)))]
  return jnp.concatenate(tokens, 1), jnp.concatenate(real, 1).astype(bool)


def _masked(key: Key, tokens: Array, real: Array, vocab_size: int, mask_rate: float) -> tuple[Array, Array]:
  """The tokens as shown to the network, and those to predict, -1 elsewhere."""
  chosen_key, how_key, any_key = jax.random.split(key, 3)
  chosen = real & jax.random.bernoulli(chosen_key, mask_rate, tokens.shape)
  how = jax.random.uniform(how_key, tokens.shape)
  other = jax.random.randint(any_key, tokens.shape, 0, vocab_size - 4)
  shown = jnp.where(how < KEPT, tokens, jnp.where(how < KEPT + RANDOM, other, vocab_size - 1))
  return jnp.where(chosen, shown, tokens), jnp.where(chosen, tokens, -1)


def _answer(params, decoded) -> Array:
  return _FOLLOWS.apply(params["head"], {}, decoded.features[:, 0].astype(jnp.float32), train=True)[0]


def _check_flags(vocab_size, next_sentence, mask_rate):
  checks.count("vocab_size", vocab_size, 5)
  checks.flag("next_sentence", next_sentence)
  checks.in_range("mask_rate", mask_rate, 0, 0.99)
  if not next_sentence and not mask_rate:
    raise ValueError("expected something to predict, got next_sentence=False and mask_rate=0")


def _check(batch, vocab_size):
  if not isinstance(batch, Pair):
    raise ValueError(f"expected a Pair of tokens [n, a] and [n, b], got {checks.describe(batch)}")
  for part in batch:
    checks.integers("tokens", part, "n", "length", low=-1, high=vocab_size - 4)
  if len(batch.first) != len(batch.second) or len(batch.first) < 2:
    raise ValueError(f"expected two or more rows, as many of both, got {len(batch.first)} and {len(batch.second)}")
