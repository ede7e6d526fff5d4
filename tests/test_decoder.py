"""The decoder-only transformer: causal, GPT-2's numbers, and sampling that does not depend on its cache."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from params_by_numpy import start
from safetensors.numpy import save_file

from metajax import Network
from metajax.learners import longer, next_token, sample
from metajax.networks import decoder, load_gpt2
from metajax.networks.linen.transformer import Size
from metajax.types import Decoded

VOCABULARY, LENGTH = 11, 12
TOKENS = np.random.default_rng(0).integers(0, VOCABULARY, (3, LENGTH)).astype(np.int32)


@pytest.fixture(scope="module")
def trained():
  network = decoder(VOCABULARY, Size(8, 1, 2), LENGTH)
  return network, *start(network.init, TOKENS)


@pytest.fixture(scope="module")
def logits(trained):
  network, params, state = trained

  @jax.jit
  def run(tokens):
    decoded = network.apply(params, state, tokens, train=False)[0]
    return decoded.features @ decoded.output_embedding.T

  return lambda tokens: np.asarray(run(np.asarray(tokens, np.int32)))


def test_a_changed_token_changes_no_logit_before_it_to_the_bit_and_those_from_it_on(logits):
  before = logits(TOKENS)
  for place in range(LENGTH):
    after = logits(np.where(np.arange(LENGTH) == place, (TOKENS + 1) % VOCABULARY, TOKENS))
    np.testing.assert_array_equal(after[:, :place], before[:, :place])
    assert (np.abs(after[:, place:] - before[:, place:]).max((0, 2)) > 1e-4).all()


@pytest.mark.parametrize(
  ("size", "published"), [("gpt2", 124439808), ("medium", 354823168), ("large", 774030080), ("xl", 1557611200)]
)
def test_published_sizes_have_the_published_number_of_parameters(size, published):
  tokens = jax.ShapeDtypeStruct((1, 4), jnp.int32)
  params, _ = jax.eval_shape(decoder(50257, size).init, jax.random.key(0), tokens)
  assert sum(np.prod(x.shape, dtype=int) for x in jax.tree.leaves(params)) == published


def gpt2_arrays(seed=0, vocab_size=19, width=12, layers=2, length=9):
  """Hugging Face's names, in the order in which the reference was drawn."""
  shapes = {"wte.weight": (vocab_size, width), "wpe.weight": (length, width)}
  shapes |= {"ln_f.weight": (width,), "ln_f.bias": (width,)}
  each = {"ln_1": (width,), "attn.c_attn": (width, 3 * width), "attn.c_proj": (width, width)}
  each |= {"ln_2": (width,), "mlp.c_fc": (width, 4 * width), "mlp.c_proj": (4 * width, width)}
  for i in range(layers):
    for name, shape in each.items():
      shapes |= {f"h.{i}.{name}.weight": shape, f"h.{i}.{name}.bias": shape[-1:]}
  random = np.random.default_rng(seed)
  return {name: random.normal(0, 0.5, shape).astype(np.float32) for name, shape in shapes.items()}


def test_gpt2_agrees_with_transformers(tmp_path):
  """Logits of `transformers.GPT2LMHeadModel` 5.24 of the same weights, of three heads, with and without a prefix."""
  (tmp_path / "config.json").write_text(json.dumps({"n_head": 3, "layer_norm_epsilon": 1e-5}))
  read = []
  for prefix in ("", "transformer."):
    save_file({prefix + name: x for name, x in gpt2_arrays().items()}, tmp_path / "model.safetensors")
    read.append(load_gpt2(tmp_path))
  (network, params), (_, prefixed) = read
  jax.tree.map(np.testing.assert_array_equal, prefixed, params)
  tokens = np.array([[3, 1, 4, 1, 5, 9, 2, 6, 5], [18, 0, 7, 7, 13, 2, 11, 16, 8]])

  @jax.jit
  def logits(params):
    decoded, _ = network.apply(params, {}, tokens, train=False)
    return decoded.features @ decoded.output_embedding.T

  found = np.asarray(logits(params))
  np.testing.assert_allclose(
    found[:, [0, 4, 8]][:, :, [0, 5, 18]],
    [
      [[0.56863, -0.05711, 2.0959], [0.69456, 0.36997, 1.133489], [0.28634, 0.03094, 1.5395]],
      [[0.76835, 0.40152, 1.17739], [0.68986, 0.41334, 1.38918], [0.27103, 0.02224, 1.68382]],
    ],
    atol=1e-4,
  )
  np.testing.assert_allclose([found.sum(), np.square(found).sum()], [-63.557640, 357.026672], rtol=1e-5)


def test_arrays_that_are_no_gpt2_are_refused_by_name(tmp_path):
  path = tmp_path / "model.safetensors"
  for change, message in (
    (lambda x: {"a": x["wte.weight"]}, "none named wte.weight"),
    (lambda x: {n: a for n, a in x.items() if n != "h.1.ln_2.bias"}, "none named h.1.ln_2.bias"),
    (lambda x: x | {"lm_head.weight": x["wte.weight"] + 1}, "an lm_head.weight equal to wte.weight"),
    (lambda x: x | {"h.0.attn.bias": np.ones(3, np.float32), "other": np.ones(3, np.float32)}, "got other too"),
    (lambda x: x | {"ln_f.bias": np.zeros(5, np.float32)}, r"ln_f.bias of shape \[12\] .*got \[5\]"),
  ):
    save_file(change(gpt2_arrays()), path)
    with pytest.raises(ValueError, match=message):
      load_gpt2(path)
  (tmp_path / "pickled.bin").write_bytes(b"")
  with pytest.raises(ValueError, match="may run code"):
    load_gpt2(tmp_path / "pickled.bin")


@pytest.mark.parametrize("given", [1, 5, 11])
def test_sampling_with_a_cache_is_sampling_without(trained, given):
  how = {"temperature": 0.7, "top_k": 8, "top_p": 0.9}
  network, *made = trained
  run = lambda cached, *made: sample(
    network, *made, jax.random.key(1), TOKENS[:, :given], LENGTH - given, cached=cached, **how
  )
  both = jax.device_get(jax.jit(lambda *made: [run(cached, *made) for cached in (True, False)])(*made))
  np.testing.assert_array_equal(*both)
  np.testing.assert_array_equal(both[0][:, :given], TOKENS[:, :given])
  assert both[0].shape == (3, LENGTH)


def test_without_temperature_the_likeliest_token_comes(trained, logits):
  network, *made = trained
  found = np.asarray(sample(network, *made, jax.random.key(0), TOKENS[:, :3], 5, temperature=0))
  seen = logits(np.pad(found, ((0, 0), (0, LENGTH - 8))))  # as long as those of other tests, for one program
  np.testing.assert_array_equal(found[:, 3:], seen[:, 2:7].argmax(-1))


def test_a_token_outside_the_vocabulary_is_refused_and_its_row_nan_while_tracing(trained):
  network, params, state = trained
  read = lambda tokens: network.apply(params, state, tokens, train=False)[0].features
  for token in (-1, VOCABULARY):
    wrong = TOKENS.copy()
    wrong[1, 4] = token
    with pytest.raises(ValueError, match=rf"tokens from 0 to 10, got {token} at \[1, 4\]"):
      read(wrong)
    found = np.isnan(jax.jit(read)(wrong))
    assert found[1, 4:].all() and not found[[0, 2]].any()


LOGITS = np.random.default_rng(0).normal(size=(5, 40)).astype(np.float32) * 50
COLD, HOW = [1e-30, 1e-37, 1e-39, 1e-45, 5e-324], [{}, {"top_k": 2}, {"top_p": 0.5}]


@functools.cache
def drawn_cold():
  """Tokens of eight draws at each temperature in each way, by one program."""

  def draw(key, logits):
    return {(cold, str(how)): next_token(key, logits, cold, **how) for cold in COLD for how in HOW}

  keys = jax.random.split(jax.random.key(0), 8)
  return jax.device_get(jax.jit(jax.vmap(draw, (0, None)))(keys, LOGITS))


@pytest.mark.parametrize("temperature", COLD)
@pytest.mark.parametrize("how", HOW, ids=str)
def test_the_smaller_the_temperature_the_likelier_the_likeliest_token(temperature, how):
  """In the limit it alone: no quotient overflows or divides by what has become 0."""
  np.testing.assert_array_equal(drawn_cold()[temperature, str(how)], np.broadcast_to(LOGITS.argmax(-1), (8, 5)))


def test_a_high_temperature_still_draws_of_the_likeliest_tokens_alone():
  logits = np.arange(40.0, dtype=np.float32)[None]
  draw = lambda key: next_token(key, logits, 1e38, top_k=3)
  found = jax.jit(lambda key: jax.vmap(draw)(jax.random.split(key, 20)))(jax.random.key(0))
  assert found.shape == (20, 1) and (found >= 37).all()


def test_prompts_of_8_bits_are_gone_on_with_by_every_token_and_minus_1():
  network = fixed(np.arange(1, 301))  # of which the last one is the likeliest
  run = lambda prompt: sample(network, {}, {}, jax.random.key(0), prompt, 3, temperature=0, end=299, cached=False)
  for kind in (np.uint8, np.int8):
    np.testing.assert_array_equal(run(np.ones((2, 1), kind)), [[1, 299, -1, -1]] * 2)


@pytest.mark.parametrize("how", [{"temperature": 0}, {"end": 3, "cached": False}], ids=str)
def test_no_token_is_drawn_of_logits_that_are_nan(trained, how):
  network, params, state = trained
  sixth = np.arange(LENGTH)[:, None] == 5  # and all tokens after it
  spoilt = params | {"positions": np.where(sixth, np.nan, params["positions"])}
  run = lambda: sample(network, spoilt, state, jax.random.key(0), TOKENS[:, :3], 5, **how)
  with pytest.raises(FloatingPointError, match=r"the logits of sequences to be finite, got . of 3 rows"):
    run()
  if "end" not in how:
    found = np.asarray(jax.jit(lambda p: sample(network, p, state, jax.random.key(0), TOKENS[:, :3], 5, **how))(spoilt))
    assert (found[:, :6] >= 0).all() and (found[:, 6:] == -1).all()


@pytest.mark.parametrize("logits", [[[np.nan, 0.0]], [[np.inf, 0.0]], [[-np.inf, -np.inf]]])
def test_the_next_token_of_logits_that_are_no_distribution_is_minus_1(logits):
  for temperature in (0, 1.0):
    assert next_token(jax.random.key(0), np.float32(logits), temperature)[0] == -1


def test_a_full_cache_is_refused_or_makes_nan_and_a_longer_one_goes_on():
  network = decoder(VOCABULARY, Size(8, 2, 2), LENGTH)  # each layer has keys and values of its own
  params, state = start(network.init, TOKENS)
  read = lambda params, tokens, *cache: network.apply(params, state, tokens, *cache, train=False)[0]

  @jax.jit
  def run(params):
    full = read(params, TOKENS[:, :5]).cache
    longer_one = read(params, TOKENS[:, 5:8], longer(full, 3)).features
    return full, longer_one, read(params, TOKENS[:, :8]).features[:, 5:]

  full, *features = run(params)
  np.testing.assert_allclose(*features, atol=1e-5)
  with pytest.raises(ValueError, match="1 after 5 in a cache of 5"):
    read(params, TOKENS[:, 5:6], full)
  assert np.isnan(jax.jit(read)(params, TOKENS[:, 5:6], full).features).all()


def fixed(probabilities):
  """A network whose next token does not depend on anything."""
  features = lambda tokens: jnp.broadcast_to(jnp.log(jnp.asarray(probabilities)), (*tokens.shape, len(probabilities)))
  return Network(
    None, lambda params, state, tokens, train: (Decoded(features(tokens), jnp.eye(len(probabilities))), {})
  )


def test_after_the_end_there_is_padding_and_only_allowed_tokens_come():
  prompt, network = np.full((200, 1), 2), fixed([0.2, 0.2, 0.6])
  run = lambda key, **how: sample(network, {}, {}, key, prompt, 5, cached=False, **how)
  draw = lambda **how: np.asarray(jax.jit(functools.partial(run, **how))(jax.random.key(0)))
  found = draw(end=2)  # the prompt's last token, the same, is no end
  ended = np.cumsum(found[:, 1:] == 2, 1) - (found[:, 1:] == 2) > 0
  np.testing.assert_array_equal(found[:, 1:] == -1, ended)
  assert 0.5 < (found[:, 1] == 2).mean() < 0.7 and ended.any()
  assert set(draw(tokens=2)[:, 1:].flat) == {0, 1}


def test_a_network_without_a_cache_is_sampled_without_one_only():
  with pytest.raises(ValueError, match="cached=False"):
    sample(fixed([0.5, 0.5]), {}, {}, jax.random.key(0), np.zeros((1, 1), int), 2)


SHARES = [
  ({}, [0.05, 0.4, 0.25, 0.3]),
  ({"temperature": 0}, [0, 1, 0, 0]),
  ({"temperature": 0.5}, np.square([0.05, 0.4, 0.25, 0.3]) / np.square([0.05, 0.4, 0.25, 0.3]).sum()),
  ({"top_k": 2}, [0, 4 / 7, 0, 3 / 7]),
  ({"top_k": 9}, [0.05, 0.4, 0.25, 0.3]),
  ({"top_k": 1, "probabilities": (0.25, 0.25, 0.25, 0.25)}, [1, 0, 0, 0]),
  ({"top_p": 0.69}, [0, 4 / 7, 0, 3 / 7]),
  ({"top_p": 0.71}, [0, 0.4 / 0.95, 0.25 / 0.95, 0.3 / 0.95]),
  ({"top_p": 0.01}, [0, 1, 0, 0]),
  ({"top_p": 1.0}, [0.05, 0.4, 0.25, 0.3]),
  ({"top_k": 3, "top_p": 0.5}, [0, 4 / 7, 0, 3 / 7]),
]


@functools.cache
def shares():
  """How often each token comes in each way, by one program."""

  probabilities = np.float32([how.get("probabilities", (0.05, 0.4, 0.25, 0.3)) for how, _ in SHARES])
  how = [{name: value for name, value in how.items() if name != "probabilities"} for how, _ in SHARES]

  @jax.jit
  def draw(key, logits):
    rows = lambda x: jnp.broadcast_to(x, (20000, 4))
    return [next_token(key, rows(x), **each) for x, each in zip(logits, how, strict=True)]

  tokens = jax.device_get(draw(jax.random.key(0), np.log(probabilities)))
  return [np.bincount(x, minlength=4) / 20000 for x in tokens]


@pytest.mark.parametrize(("how", "expected"), SHARES)
def test_tokens_come_as_often_as_temperature_top_k_and_top_p_say(how, expected):
  found = shares()[[case for case, _ in SHARES].index(how)]
  np.testing.assert_allclose(found, expected, atol=0.015)
  assert (found[np.asarray(expected) == 0] == 0).all()


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"steps": -1}, "steps to be a whole number of at least 0, got -1"),
    ({"temperature": -0.1}, "temperature of at least 0, and finite, got -0.1"),
    ({"temperature": np.inf}, "temperature of at least 0, and finite, got inf"),
    ({"temperature": "hot"}, "temperature to be a number, got 'hot'"),
    ({"steps": 2.5}, "steps to be a whole number of at least 0, got 2.5"),
    ({"end": -1}, "end to be a whole number of at least 0, got -1"),
    ({"top_k": 0}, "top_k to be a whole number of at least 1, got 0"),
    ({"top_p": 0}, r"top_p in \(0, 1\]"),
    ({"prompt": np.zeros((2, 0), int)}, r"integers \[n, given\], got int32 \[2, 0\]"),
    ({"prompt": np.zeros((2, 3))}, "got float32"),
    ({"prompt": TOKENS[:, :3] + 5}, "prompts below 11, the network's vocabulary, got 1"),
    ({"end": 11}, "an end below 11"),
    ({"tokens": 12}, "the last of them, below 11"),
    ({"prompt": TOKENS[:, :3] - 20}, "prompts without padding, got a token -"),
    ({"steps": LENGTH}, "at most 12 tokens in total, got a cache of 14"),
    ({"steps": LENGTH, "cached": False}, "at most 12 tokens, got int32"),
  ],
)
def test_samples_that_cannot_be_drawn_are_refused(trained, change, message):
  given = {"prompt": TOKENS[:, :3], "steps": 2} | change
  with pytest.raises(ValueError, match=message):
    sample(*trained, jax.random.key(0), given.pop("prompt"), given.pop("steps"), **given)


def test_decoders_that_cannot_be_are_refused():
  for make, message in (
    (lambda: decoder(10, "huge"), "'gpt2', 'medium', 'large', 'xl' or a Size, got 'huge'"),
    (lambda: decoder(1), "vocabulary of at least 2"),
    (lambda: decoder(10, Size(10, 1, 3)), "a width divisible by the number of heads"),
    (lambda: decoder(10, max_length=4).init(jax.random.key(0), np.zeros((1, 5), int)), "at most 4 tokens"),
    (lambda: decoder(10, max_length=4).init(jax.random.key(0), np.zeros((1, 3))), "integer tokens"),
  ):
    with pytest.raises(ValueError, match=message):
      make()
