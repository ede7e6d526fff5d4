"""Text towers: causal, read at the end of text, and CLIP's of the published sizes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from params_by_numpy import start

from metajax import Network
from metajax.compose import chunked
from metajax.learners import clip
from metajax.networks import clip_towers, text_transformer
from metajax.networks.linen.clip_towers import PUBLISHED
from metajax.networks.linen.transformer import Size
from metajax.types import Pair

VOCABULARY, END = 30, 29


@pytest.fixture(scope="module")
def text():
  network = text_transformer(VOCABULARY, Size(8, 1, 2), 9, num_outputs=5)
  params, state = start(network.init, np.zeros((1, 9), np.int32))
  assert state == {}
  compiled = jax.jit(lambda params, tokens: network.apply(params, {}, tokens, train=False)[0])

  def run(tokens):  # as many rows at each time, for one program a length
    return np.asarray(compiled(params, np.resize(np.int32(tokens), (4, len(tokens[0])))))[: len(tokens)]

  run.known = lambda tokens: jax.eval_shape(lambda params: network.apply(params, {}, tokens, train=False)[0], params)
  return run


def test_what_follows_the_end_of_text_has_no_say_and_short_rows_are_the_same(text):
  tokens = np.array([[28, 3, 4, END, 0, 0, 0, 0, 0], [28, 7, 8, 9, 10, END, 0, 0, 0]])
  other = np.where(np.arange(9) > np.array([[3], [5]]), 17, tokens)
  assert text(tokens).shape == (2, 5)
  np.testing.assert_allclose(text(other), text(tokens), atol=1e-6)
  np.testing.assert_allclose(text(tokens[:, :6]), text(tokens), atol=1e-6)
  np.testing.assert_allclose(text(np.where(other == 17, END, other)), text(tokens), atol=1e-6)  # the first end counts


def test_every_token_before_the_end_has_a_say(text):
  tokens = np.array([[28, 3, 4, 5, END, 0]])
  for i in range(4):
    assert np.abs(text(np.where(np.arange(6) == i, 11, tokens)) - text(tokens)).max() > 1e-4
  assert np.abs(text(tokens[:, [0, 2, 1, 3, 4, 5]]) - text(tokens)).max() > 1e-4


def test_chunks_give_the_same_gradient():
  network = text_transformer(VOCABULARY, Size(16, 1, 2), 9)
  tokens = np.random.default_rng(0).integers(0, END, (8, 9))
  tokens[:, 7] = END

  @jax.jit
  def gradients(params):
    loss = lambda params, n: jnp.square(n.apply(params, {}, tokens, train=True)[0] - 1).mean()
    return [jax.grad(loss)(params, n) for n in (chunked(network, 2), network)]

  params, _ = start(network.init, tokens, size=0.1)
  jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-6), *gradients(params))


@pytest.mark.parametrize(
  ("row", "said"),
  [
    ([28, 3, 4, 0, 0, 0], "the end of text, token 29, in every row, got none in 2 rows: 1, 3"),
    ([28, 3, -1, END, 0, 0], r"tokens from 0 to 29, got -1 at \[1, 2\]"),
    ([28, 3, 4, END, -1, 0], r"tokens from 0 to 29, got -1 at \[1, 4\]"),
    ([28, 3, 30, END, 0, 0], r"tokens from 0 to 29, got 30 at \[1, 2\]"),
  ],
)
def test_tokens_without_an_end_or_outside_the_vocabulary_are_refused_and_their_rows_nan_while_tracing(text, row, said):
  tokens = np.array([[28, 3, 4, END, 0, 0], [28, 5, 6, END, 0, 0]])[[0, 1, 0, 1]]
  wrong = np.where(np.arange(4)[:, None] % 2 == 1, row, tokens)
  with pytest.raises(ValueError, match=said):
    text.known(wrong)
  found = text(wrong)
  np.testing.assert_array_equal(np.isnan(found).all(-1), [False, True, False, True])
  np.testing.assert_allclose(found[::2], text(tokens)[::2], atol=1e-6)


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_tokens_may_be_of_any_integers(kind):
  network = text_transformer(300, Size(8, 1, 2), 4)
  tokens = np.array([[1, 2, 299, 0]])
  params, _ = start(network.init, tokens)
  read = jax.jit(lambda params, *tokens: [network.apply(params, {}, x, train=False)[0] for x in tokens])
  if np.dtype(kind).itemsize == 1:  # which has no end of text
    assert np.isnan(read(params, np.minimum(tokens, 100).astype(kind))).all()
  else:
    np.testing.assert_array_equal(*read(params, tokens.astype(kind), tokens))


def test_clip_refuses_texts_without_an_end_before_it_makes_anything():
  text, seen = text_transformer(VOCABULARY, Size(8, 1, 2), 4), []
  image = Network(lambda key, x: seen.append(isinstance(x, jax.core.Tracer)) or ({}, {}), None)
  image = image._replace(apply=lambda params, state, x, *, train, key=None: (x.reshape(len(x), -1)[:, :8], state))
  images, tokens = np.ones((3, 4, 4, 1), np.float32), np.array([[1, END, 0, 0], [1, 2, 3, 0], [1, 2, END, 0]])
  with pytest.raises(ValueError, match="the end of text, token 29, in every row, got none in 1 row: 1"):
    clip(image, text).init(jax.random.key(0), Pair(images, tokens))
  assert len(seen) == 1


def shapes(towers):
  made, key = clip_towers(towers), jax.random.key(0)
  images = jax.ShapeDtypeStruct((1, towers.pixels, towers.pixels, 3), jnp.float32)
  tokens = jax.ShapeDtypeStruct((1, towers.max_length), jnp.int32)
  image, text = (jax.eval_shape(n.init, key, x)[0] for n, x in zip(made, (images, tokens), strict=True))
  return {"image": image, "text": text, "log_scale": jax.ShapeDtypeStruct((), jnp.float32)}


@pytest.mark.parametrize(
  ("name", "published"),
  [
    *(("ViT-B/32", 151277313), ("ViT-B/16", 149620737), ("ViT-L/14", 427616513), ("ViT-L/14@336px", 427944193)),
    ("ViT-H/14", 986109441),
    pytest.param("ViT-g/14", 1366678273, marks=pytest.mark.slow),  # slow to trace
    pytest.param("ViT-bigG/14", 2539567105, marks=pytest.mark.slow),
    *(("RN50", 102007137), ("RN101", 119688033), ("RN50x4", 178300601)),
    pytest.param("RN50x16", 290979217, marks=pytest.mark.slow),
    pytest.param("RN50x64", 623258305, marks=pytest.mark.slow),
  ],
)
def test_a_published_clip_has_the_published_number_of_parameters(name, published):
  assert sum(np.prod(x.shape, dtype=int) for x in jax.tree.leaves(shapes(PUBLISHED[name]))) == published


@pytest.mark.parametrize(
  ("make", "said"),
  [
    (lambda: text_transformer(1), "a vocabulary and a length of at least 2, got 1 and 77"),
    (lambda: text_transformer(9, Size(10, 1, 3)), "a width divisible by the number of heads"),
    (lambda: text_transformer(9, num_outputs=0), "at least 1 output, or None, got 0"),
    (lambda: text_transformer(9, dropout=1.0), "a dropout of at least 0 and below 1, got 1.0"),
    (lambda: clip_towers("ViT-X"), "expected one of 'ViT-B/32'"),
    (
      lambda: text_transformer(9, Size(8, 1, 1), 4).init(jax.random.key(0), np.zeros((2, 5), np.int32)),
      r"of at most 4 tokens, got int32 \[2, 5\]",
    ),
    (
      lambda: text_transformer(9, Size(8, 1, 1), 4).init(jax.random.key(0), np.zeros((2, 3), np.float32)),
      r"expected integer tokens \[n, tokens\], .*got float32 \[2, 3\]",
    ),
  ],
)
def test_arguments_out_of_range_are_refused(make, said):
  with pytest.raises(ValueError, match=said):
    make()
