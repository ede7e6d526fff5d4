"""Text towers: causal, read at the end of text, and CLIP's of the published sizes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metajax.compose import chunked
from metajax.networks import clip_towers, text_transformer
from metajax.networks.clip_towers import PUBLISHED
from metajax.networks.transformer import Size

VOCABULARY, END = 30, 29


@pytest.fixture(scope="module")
def text():
  network = text_transformer(VOCABULARY, Size(16, 2, 2), 9, outputs=5)
  params, state = network.init(jax.random.key(0), jnp.zeros((1, 9), jnp.int32))
  assert state == {}
  return lambda tokens: np.asarray(network.apply(params, {}, jnp.asarray(tokens, jnp.int32), train=False)[0])


def test_what_follows_the_end_of_text_has_no_say_and_short_rows_are_the_same(text):
  tokens = np.array([[28, 3, 4, END, 0, 0, 0, 0, 0], [28, 7, 8, 9, 10, END, 0, 0, 0]])
  other = np.where(np.arange(9) > np.array([[3], [5]]), 17, tokens)
  assert text(tokens).shape == (2, 5)
  np.testing.assert_allclose(text(other), text(tokens), atol=1e-6)
  np.testing.assert_allclose(text(tokens[:, :6]), text(tokens), atol=1e-6)
  np.testing.assert_allclose(text(np.where(other == 17, END, other)), text(tokens), atol=1e-6)  # the first end counts


def test_every_token_before_the_end_has_a_say(text):
  tokens = np.array([[28, 3, 4, 5, END]])
  for i in range(4):
    assert np.abs(text(np.where(np.arange(5) == i, 11, tokens)) - text(tokens)).max() > 1e-4
  assert np.abs(text(tokens[:, [0, 2, 1, 3, 4]]) - text(tokens)).max() > 1e-4


def test_chunks_give_the_same_gradient():
  network = text_transformer(VOCABULARY, Size(16, 1, 2), 9)
  tokens = np.random.default_rng(0).integers(0, END, (8, 9))
  params, _ = network.init(jax.random.key(0), tokens)
  loss = lambda n: jax.jit(jax.grad(lambda p: jnp.square(n.apply(p, {}, tokens, train=True)[0] - 1).mean()))(params)
  jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-6), loss(chunked(network, 2)), loss(network))


def shapes(towers):
  made, key = clip_towers(towers), jax.random.key(0)
  pictures = jax.ShapeDtypeStruct((1, towers.pixels, towers.pixels, 3), jnp.float32)
  tokens = jax.ShapeDtypeStruct((1, towers.length), jnp.int32)
  picture, text = (jax.eval_shape(n.init, key, x)[0] for n, x in zip(made, (pictures, tokens), strict=True))
  return {"picture": picture, "text": text, "log_scale": jax.ShapeDtypeStruct((), jnp.float32)}


@pytest.mark.parametrize(
  ("name", "published"),
  [("ViT-B/32", 151277313), ("ViT-B/16", 149620737), ("ViT-L/14", 427616513), ("ViT-L/14@336px", 427944193)],
)
def test_a_published_clip_has_the_published_number_of_parameters(name, published):
  assert sum(np.prod(x.shape, dtype=int) for x in jax.tree.leaves(shapes(PUBLISHED[name]))) == published


@pytest.mark.parametrize(
  ("make", "said"),
  [
    (lambda: text_transformer(1), "a vocabulary and a length of at least 2, got 1 and 77"),
    (lambda: text_transformer(9, Size(10, 1, 3)), "of a width that the heads divide"),
    (lambda: text_transformer(9, outputs=0), "at least 1 output, or None, got 0"),
    (lambda: text_transformer(9, dropout=1.0), "a dropout of at least 0 and below 1, got 1.0"),
    (lambda: clip_towers("ViT-X"), "expected one of 'ViT-B/32'"),
    (
      lambda: text_transformer(9, Size(8, 1, 1), 4).init(jax.random.key(0), jnp.zeros((2, 5), jnp.int32)),
      r"of at most 4 tokens, got int32 \[2, 5\]",
    ),
    (
      lambda: text_transformer(9, Size(8, 1, 1), 4).init(jax.random.key(0), jnp.zeros((2, 3))),
      r"expected integer tokens \[n, tokens\], .*got float32 \[2, 3\]",
    ),
  ],
)
def test_arguments_out_of_range_are_refused(make, said):
  with pytest.raises(ValueError, match=said):
    make()
