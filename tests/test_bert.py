"""BERT: masked tokens and the next sentence (arXiv:1810.04805)."""

import jax
import numpy as np
import pytest
from params_by_numpy import start
from table_of_learners import TINY, adjacent

from metajax import Pair, networks
from metajax.learners import bert, next_sentence_logits
from metajax.learners.bert import _inputs, _masked
from metajax.types import Cache

VOCABULARY = 16
START, END, PADDING, MASK = 12, 13, 14, 15
network = networks.bert(VOCABULARY, TINY, 10)


def test_a_segment_has_places_of_its_own_and_only_its_text_is_text():
  pair = Pair(np.array([[3, 4, -1]]), np.array([[5, -1]]))
  tokens, real = _inputs(pair, VOCABULARY)
  assert tokens.tolist() == [[START, 3, 4, PADDING, END, 5, PADDING, END]]
  assert real.tolist() == [[False, True, True, False, False, True, False, False]]
  alone, _ = _inputs(Pair(pair.first, pair.second[:, :0]), VOCABULARY)
  assert alone.tolist() == tokens[:, :5].tolist()


def test_of_the_chosen_tokens_most_are_masked_some_are_replaced_and_some_stay():
  pair = Pair(np.full((400, 40), 7), np.full((400, 40), 7))
  tokens, real = _inputs(pair, VOCABULARY)
  shown, labels = map(np.asarray, _masked(jax.random.key(0), tokens, real, VOCABULARY, 0.2))
  chosen = labels >= 0
  assert (labels[chosen] == 7).all() and not chosen[~np.asarray(real)].any()
  np.testing.assert_array_equal(shown[~chosen], np.asarray(tokens)[~chosen])
  share = lambda where: np.mean(where[chosen])
  assert chosen[np.asarray(real)].mean() == pytest.approx(0.2, abs=0.01)
  assert share(shown == MASK) == pytest.approx(0.8, abs=0.02)
  assert share(shown == 7) == pytest.approx(0.1 + 0.1 / 12, abs=0.02)  # one of twelve replacements is the same
  assert set(shown[chosen]) == {*range(12), MASK}


def test_the_loss_is_that_of_masked_tokens_and_of_what_follows():
  """Half of the second segments are those of another row, by the key."""
  learner, batch, key = bert(network, VOCABULARY, mask_rate=0.5), adjacent(0), jax.random.key(3)
  params, state = start(learner.init, batch)
  pair_key, mask_key, _ = jax.random.split(key, 3)
  follows = np.asarray(jax.random.bernoulli(pair_key, 0.5, (len(batch.first),)))
  assert 4 < follows.sum() < 12
  pair = Pair(batch.first, np.where(follows[:, None], batch.second, np.roll(batch.second, 1, 0)))

  @jax.jit
  def run(params):
    tokens, labels = _masked(mask_key, *_inputs(pair, VOCABULARY), VOCABULARY, 0.5)
    decoded, _ = network.apply(params["network"], state, tokens, train=False)
    found = [bert(network, VOCABULARY, **how).loss(params, state, batch, key) for how in HOWS]
    return decoded.features, decoded.output_embedding, labels, learner.loss(params, state, batch, key), found

  HOWS = ({"next_sentence": False, "mask_rate": 0.5}, {"mask_rate": 0.0})
  features, embedding, labels, (loss, (_, metrics)), ((masked, _), (following, _)) = run(params)
  log_prob = lambda logits: logits - np.log(np.exp(logits).sum(-1, keepdims=True))
  of_tokens = log_prob(np.float64(features) @ np.float64(embedding).T)
  there = np.argwhere(np.asarray(labels) >= 0)
  wanted = -np.mean([of_tokens[i, j, labels[i, j]] for i, j in there])
  np.testing.assert_allclose(metrics["bits"], wanted / np.log(2), rtol=1e-5)
  head = params["head"]
  of_rows = log_prob(np.float64(features)[:, 0] @ np.float64(head["weight"]) + np.float64(head["bias"]))
  next_sentence = -np.mean(of_rows[np.arange(len(follows)), follows.astype(int)])
  np.testing.assert_allclose(loss, wanted + next_sentence, rtol=1e-5)
  assert metrics["next_sentence_accuracy"] == pytest.approx(np.mean(of_rows.argmax(-1) == follows))
  assert np.isfinite(masked) and np.isfinite(following) and abs(masked + following - loss) > 1e-4


def test_every_token_sees_all_others_and_the_answer_both_segments():
  pair = adjacent(0)
  params, state = start(bert(network, VOCABULARY).init, pair)
  answer = jax.jit(next_sentence_logits(network, VOCABULARY))
  changed = Pair(pair.first, np.where(pair.second >= 0, 11 - pair.second, -1))
  found = answer(params, state, pair)
  assert found.shape == (16, 2) and not np.allclose(found, answer(params, state, changed), atol=1e-4)
  embed = jax.jit(bert(network, VOCABULARY).embed)
  features = embed(params, state, pair.first)
  longer = np.concatenate([pair.first[:1], np.full((1, 2), -1)], 1)
  assert features.shape == (16, 8) and embed(params, state, longer).shape == (1, 8)


@pytest.mark.parametrize(
  ("change", "message"),
  [
    (lambda x: x.first, r"a Pair of tokens \[n, a\] and \[n, b\], got int32 \[16, 4\]"),
    (lambda x: x._replace(second=x.second + 0.5), r"tokens to be integers \[n, length\], got float64 \[16, 3\]"),
    (lambda x: x._replace(second=x.second[1:]), "as many of both, got 16 and 15"),
    (lambda x: Pair(x.first[:1], x.second[:1]), "two or more rows, as many of both, got 1 and 1"),
    (lambda x: x._replace(first=x.first + 1), "tokens .* 12"),
  ],
)
def test_a_batch_that_is_no_pair_of_tokens_is_refused(change, message):
  with pytest.raises(ValueError, match=f"expected .*{message}"):
    bert(network, VOCABULARY).init(jax.random.key(0), change(adjacent(0)))


def test_arguments_that_leave_nothing_to_learn_are_refused():
  for how, message in (
    ({"next_sentence": False, "mask_rate": 0.0}, "something to predict, got next_sentence=False and mask_rate=0"),
    ({"mask_rate": 1.0}, "mask_rate .* got 1.0"),
  ):
    with pytest.raises(ValueError, match=message):
      bert(network, VOCABULARY, **how)
  with pytest.raises(ValueError, match="expected a network of 20 tokens, got one of 16"):
    bert(network, 20).init(jax.random.key(0), adjacent(0))
  decoder = networks.mlp((4,), 4)
  with pytest.raises(ValueError, match="Decoded"):
    bert(decoder, VOCABULARY).init(jax.random.key(0), adjacent(0))


def test_a_network_in_which_tokens_attend_to_later_ones_keeps_and_takes_no_cache():
  tokens = np.zeros((2, 5), np.int32)
  params, state = start(network.init, tokens)
  assert network.apply(params, state, tokens, train=False)[0].cache is None
  with pytest.raises(ValueError, match="expected no cache for a network in which tokens attend to later ones"):
    network.apply(params, state, tokens, Cache((), np.zeros((), np.int32)), train=False)
