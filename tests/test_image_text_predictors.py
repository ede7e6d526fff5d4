"""Few labels on image-text models: predictors on pairs of images and prompts, against NumPy from their papers."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from metajax import Examples, Pair, gradient_steps, networks, predictors
from metajax.adapt import identity
from metajax.data import from_arrays, prompted_episodes
from metajax.networks.linen.transformer import Size
from metajax.predictors import lp_plus_plus_logits, tip_adapter_logits

RANDOM = np.random.default_rng(0)
WAYS, WIDTH, SCALE = 3, 6, 20.0
TEXTS = RANDOM.normal(size=(WAYS, WIDTH)).astype("f")
ROWS = np.array([0, 0, 0, 1, 1, 2, 2])
LABELS = np.eye(WAYS, dtype="f")[ROWS]
SUPPORT = (TEXTS[ROWS] + RANDOM.normal(size=(7, WIDTH))).astype("f")
QUERIES = (TEXTS[np.arange(9) % WAYS] + RANDOM.normal(size=(9, WIDTH))).astype("f")
TEXT = networks.text_transformer(12, Size(8, 1, 2), 9, num_outputs=WIDTH)
NAMES = np.array([[10, 4, 11, 0], [10, 5, 6, 11], [10, 7, 11, 0]])  # start, a name of one or two tokens, end
PARAMS, STATE = TEXT.init(jax.random.key(0), NAMES)
PAIRS = Examples(Pair(SUPPORT, NAMES[ROWS]), LABELS)
CALM = gradient_steps(optax.adam(1e-2), 40, gradient="first_order")
tokens_embedded = jax.jit(lambda tokens: embed_prompt(PARAMS, STATE, tokens))
ridge_logits = jax.jit(predictors.ridge_logits)
unit = lambda x: x / np.linalg.norm(x, axis=-1, keepdims=True)
WEIGHTS = 1 / (1 + np.arange(9, dtype="f"))[:, None]  # of a token by its position


def embed(params, state, inputs):
  """Images are features already; tokens become a weighted sum, in a tenth of the text tower's time to compile."""
  return inputs if jnp.issubdtype(inputs.dtype, jnp.floating) else embed_prompt(params, state, inputs)


def embed_prompt(params, state, tokens, context=None):
  words = params["tokens"]["embedding"][tokens]
  if context is not None:
    shared = jnp.broadcast_to(context, (len(tokens), *context.shape[-2:]))
    words = jnp.concatenate([words[:, :1], shared, words[:, 1 + shared.shape[1] :]], 1)
  return jnp.tanh((words * WEIGHTS[: words.shape[1]]).sum(1)) @ params["projection"]["kernel"]


def embed_by_tower(params, state, inputs):
  return inputs if jnp.issubdtype(inputs.dtype, jnp.floating) else tower(params, state, inputs)


def tower(params, state, *prompt):
  return TEXT.apply(params, state, *prompt, train=False)[0]


def run(predict, support=PAIRS, queries=QUERIES):
  return np.asarray(jax.jit(predict)(PARAMS, STATE, support, queries))


def softmax(x):
  x = np.asarray(x, float)
  return np.exp(x - x.max()) / np.exp(x - x.max()).sum()


def of_tip(support, labels, query, texts, alpha, beta):
  """The logits of one query, equations (5) to (7) of arXiv:2111.03930, in loops."""
  logits = [SCALE * (unit(query) @ unit(text)) for text in texts]
  for key, label in zip(support, labels, strict=True):
    logits[int(label.argmax())] += alpha * np.exp(-beta * (1 - unit(key) @ unit(query)))
  return np.array(logits)


def test_tip_adapter_is_that_of_its_paper():
  found = jax.jit(partial(tip_adapter_logits, alpha=1.5, beta=3.0, scale=SCALE))(SUPPORT, LABELS, QUERIES, TEXTS)
  wanted = [of_tip(SUPPORT, LABELS, query, TEXTS, 1.5, 3.0) for query in QUERIES]
  np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)


def test_tip_adapter_chooses_its_numbers_by_the_images_left_out():
  alphas, betas = (1.0, 0.0, 3.0, 9.0), (5.5, 1.0, 20.0)
  texts = np.asarray(tokens_embedded(NAMES))

  def left_out(alpha, beta):
    total = 0
    for i, row in enumerate(ROWS):
      others = np.arange(len(ROWS)) != i
      of_text = of_tip([], [], SUPPORT[i], texts, alpha, beta)
      cache = of_tip(SUPPORT[others], LABELS[others], SUPPORT[i], texts, alpha, beta) - of_text
      count = (row == ROWS).sum()
      cache[row] *= count / (count - 1)
      total -= np.log(softmax(of_text + cache)[row])
    return total

  best = min(((a, b) for a in alphas for b in betas), key=lambda pair: left_out(*pair))
  assert best != (1.0, 5.5)
  found = run(predictors.tip_adapter(embed, alphas=alphas, betas=betas, scale=SCALE))
  np.testing.assert_allclose(found, [of_tip(SUPPORT, LABELS, query, texts, *best) for query in QUERIES], rtol=1e-4)


def test_with_one_image_a_class_the_first_numbers_are_taken():
  one = jax.tree.map(lambda x: x[np.array([0, 3, 5])], PAIRS)
  given = {"alphas": (2.0, 0.0), "betas": (3.0, 1.0), "scale": SCALE}
  alone = {"alphas": (2.0,), "betas": (3.0,), "scale": SCALE}
  both = [run(predictors.tip_adapter(embed, **how), one) for how in (given, alone)]
  np.testing.assert_allclose(*both, rtol=1e-6)


def test_the_keys_of_tip_adapter_f_start_from_the_support_and_fit_its_augmented_images():
  same, moved = (lambda key, x: x), (lambda key, x: x + 0.3 * jax.random.normal(key, x.shape))
  plain = run(predictors.tip_adapter(embed, scale=SCALE))
  np.testing.assert_allclose(run(predictors.tip_adapter_f(embed, identity, same, scale=SCALE)), plain, rtol=1e-5)
  tuned = predictors.tip_adapter_f(embed, CALM, moved, alphas=(2.0,), betas=(3.0,), scale=SCALE)
  loss = lambda predict: -(LABELS * np.log([softmax(row) for row in run(predict, PAIRS, SUPPORT)])).sum()
  assert loss(tuned) < loss(predictors.tip_adapter(embed, alphas=(2.0,), betas=(3.0,), scale=SCALE)) / 2


def of_lp(support, labels, texts, steps, text_every):
  """LP++, block coordinate descent with steps 1 / L, in loops; the loss after each step too."""
  f, t, n = unit(support), unit(texts), len(support)
  w = np.stack([f[labels[:, k] == 1].mean(0) for k in range(len(t))])
  own = np.mean([np.mean([f[i] @ t[k] for i in range(n) if labels[i, k]]) for k in range(len(t))])
  alpha, losses = np.full(len(t), 2.5 * SCALE * own), []
  largest = np.linalg.eigvalsh(f.T @ f).max() / (2 * n)
  of_alpha = max(sum((f[i] @ t[k]) ** 2 for i in range(n)) for k in range(len(t))) / (2 * n)
  p = lambda: np.array([softmax([x @ (w[k] + alpha[k] * t[k]) for k in range(len(t))]) for x in f])
  for step in range(steps):
    w = w - ((p() - labels).T @ f / n) / largest
    if (step + 1) % text_every == 0:
      alpha = alpha - ((p() - labels) * (f @ t.T)).mean(0) / of_alpha
    losses.append(-np.log(p()[labels == 1]).mean())
  return w, alpha, losses


def test_lp_plus_plus_is_block_descent_that_never_raises_the_loss():
  w, alpha, losses = of_lp(SUPPORT.astype(float), LABELS, TEXTS.astype(float), 60, 5)
  found = jax.jit(partial(lp_plus_plus_logits, steps=60, text_every=5, scale=SCALE))(SUPPORT, LABELS, QUERIES, TEXTS)
  q, t = unit(QUERIES), unit(TEXTS)
  np.testing.assert_allclose(found, q @ w.T + alpha * (q @ t.T), rtol=1e-3, atol=1e-3)
  assert (np.diff(losses) < 1e-12).all() and losses[-1] < losses[0] / 2


def test_clip_adapter_mixes_in_what_its_bottleneck_learns():
  zero = run(predictors.zero_shot(embed, scale=SCALE))
  for how in ({"adapt": CALM, "ratio": 0.0}, {"adapt": gradient_steps(optax.sgd(0.0), 1), "ratio": 0.0}):
    np.testing.assert_allclose(run(predictors.clip_adapter(embed, reduction=2, scale=SCALE, **how)), zero, rtol=1e-4)
  loss = lambda predict: -(LABELS * np.log([softmax(row) for row in run(predict, PAIRS, SUPPORT)])).sum()
  adapted = [predictors.clip_adapter(embed, adapt, ratio=0.7, reduction=1, scale=SCALE) for adapt in (CALM, identity)]
  assert loss(adapted[0]) < loss(adapted[1])


def test_clip_adapter_is_that_of_its_paper():
  """One step of plain descent on given matrices would show nothing more: the features that they make are compared."""
  seen = []

  def keep(loss, matrices, data):
    seen.append(matrices)
    return matrices, None

  predict = predictors.clip_adapter(embed, keep, ratio=0.3, reduction=2, scale=SCALE)
  found, matrices = jax.jit(lambda: (predict(PARAMS, STATE, PAIRS, QUERIES), seen[0]))()
  down, up = np.asarray(matrices["down"]), np.asarray(matrices["up"])
  assert down.shape == (WIDTH, WIDTH // 2) and up.shape == (WIDTH // 2, WIDTH)
  mixed = [0.3 * np.maximum(np.maximum(x @ down, 0) @ up, 0) + 0.7 * x for x in unit(QUERIES)]
  texts = tokens_embedded(NAMES)
  np.testing.assert_allclose(found, SCALE * unit(np.array(mixed)) @ unit(np.asarray(texts)).T, rtol=1e-4, atol=1e-4)


def prompt(words):
  """The tokens of the names after some words."""
  return np.array([[10, *words, *row[1:]] for row in NAMES])


def test_context_vectors_that_embed_words_are_a_prompt_of_these_words():
  """So a published prompt is where CoOp starts from, and the positions are right."""
  table, words = PARAMS["tokens"]["embedding"], [1, 2]
  said = Examples(Pair(SUPPORT, prompt(words)[ROWS]), LABELS)
  wanted = run(predictors.zero_shot(embed_by_tower, scale=SCALE), said)
  for class_specific in (False, True):
    how = {"context": table[np.array(words)], "class_specific": class_specific, "scale": SCALE}
    np.testing.assert_allclose(run(predictors.coop(embed_by_tower, tower, identity, **how)), wanted, rtol=1e-4)


def test_coop_learns_the_context_alone():
  context = 0.02 * RANDOM.normal(size=(2, 8)).astype("f")
  loss = lambda predict: -(LABELS * np.log([softmax(row) for row in run(predict, PAIRS, SUPPORT)])).sum()
  found = [
    loss(predictors.coop(embed, embed_prompt, adapt, context, class_specific=specific, scale=SCALE))
    for adapt, specific in ((identity, False), (CALM, False), (CALM, True))
  ]
  assert found[2] < found[1] < found[0]


def test_several_prompts_of_a_class_are_averaged_as_unit_vectors():
  several = np.stack([prompt([1]), prompt([2])], axis=1)
  found = run(predictors.zero_shot(embed, scale=SCALE), Examples(Pair(SUPPORT, several[ROWS]), LABELS))
  each = [unit(np.asarray(tokens_embedded(prompt([word])))) for word in (1, 2)]
  np.testing.assert_allclose(found, SCALE * unit(QUERIES) @ unit(np.mean(each, 0)).T, rtol=1e-4, atol=1e-4)


PREDICTORS = {
  "zero_shot": predictors.zero_shot(embed),
  "tip_adapter": predictors.tip_adapter(embed, scale=SCALE),
  "lp_plus_plus": predictors.lp_plus_plus(embed, steps=20, scale=SCALE),
  "clip_adapter": predictors.clip_adapter(embed, gradient_steps(optax.sgd(0.1), 2), ratio=0.5, reduction=2),
  "coop": predictors.coop(embed, embed_prompt, gradient_steps(optax.sgd(0.1), 2), np.full((1, 8), 0.1, "f")),
  "tip_adapter_f": predictors.tip_adapter_f(embed, gradient_steps(optax.sgd(0.1), 2), lambda key, x: x, scale=SCALE),
}


@pytest.mark.parametrize("name", PREDICTORS)
def test_padding_counts_for_nothing_and_an_empty_way_is_never_predicted(name):
  """A row without a label, whatever its image and its prompt; a way without rows."""
  wanted = run(PREDICTORS[name])
  wide = lambda x: np.pad(x, [(0, 2), (0, 1)])
  images = np.concatenate([SUPPORT, RANDOM.normal(size=(2, WIDTH)).astype("f")])
  padded = Examples(Pair(images, np.concatenate([NAMES[ROWS], NAMES[[2, 1]]])), wide(LABELS))
  found = run(PREDICTORS[name], padded)
  np.testing.assert_allclose(found[:, :WAYS], wanted, rtol=2e-4, atol=2e-4)
  assert (found[:, WAYS] <= -1e8).all()


def test_leave_one_out_takes_what_predicts_the_images_left_out():
  seen = []

  def counted(params, state, inputs):
    seen.append(inputs.shape)
    return inputs

  def left_out(l2, folds):
    place = np.array([(ROWS[:i] == row).sum() for i, row in enumerate(ROWS)])
    fold, total = (np.arange(7) if folds is None else place % folds), 0
    for part in set(fold):
      kept = LABELS * (fold != part)[:, None]
      logits = ridge_logits(SUPPORT, kept, SUPPORT, l2)
      known = [i for i in np.flatnonzero(fold == part) if kept[:, ROWS[i]].any()]
      total -= sum(np.log(softmax(np.asarray(logits[i]))[ROWS[i]]) for i in known)
    return total

  strengths = (1e-3, 3.0, 100.0)
  images = Examples(SUPPORT, LABELS)
  for folds in (None, 2):
    best = min(strengths, key=lambda l2: left_out(l2, folds))
    assert best != strengths[-1]
    candidates = [partial(predictors.ridge, l2=l2) for l2 in (100.0, *strengths)]
    found = run(predictors.leave_one_out(counted, candidates, folds=folds), images)
    wanted = ridge_logits(SUPPORT, LABELS, QUERIES, best)
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)
  assert len(seen) == 4  # support and queries, once each


def test_with_nothing_to_leave_out_the_first_candidate_is_taken():
  one = Examples(SUPPORT[[0, 3, 5]], LABELS[[0, 3, 5]])
  candidates = [partial(predictors.ridge, l2=l2) for l2 in (7.0, 0.1)]
  found = run(predictors.leave_one_out(embed, candidates), one)
  np.testing.assert_allclose(found, ridge_logits(*one, QUERIES, 7.0), rtol=1e-4)


@pytest.mark.parametrize(
  ("call", "said"),
  [
    (
      lambda: run(predictors.zero_shot(embed), Examples(SUPPORT, LABELS)),
      r"a Pair of images .*got .*\[7, 6\]",
    ),
    (lambda: run(predictors.tip_adapter(embed), Examples(Pair(SUPPORT, SUPPORT), LABELS)), r"got float32 \[7, 6\]"),
    (lambda: run(predictors.lp_plus_plus(embed), Examples(Pair(SUPPORT, NAMES), LABELS)), r"integer tokens \[7, len"),
    (lambda: predictors.zero_shot(embed, scale=0.0), "a scale to be above 0, got 0.0"),
    (lambda: predictors.tip_adapter(embed, alphas=()), r"one or more alphas, each at least 0, got \(\)"),
    (lambda: predictors.tip_adapter(embed, betas=(0.0,)), r"betas, each above 0, got \(0.0,\)"),
    (lambda: predictors.lp_plus_plus(embed, steps=0), "steps to be a whole number of at least 1, got 0"),
    (lambda: predictors.clip_adapter(embed, CALM, ratio=1.5), "a ratio from 0 to 1, got 1.5"),
    (lambda: run(predictors.clip_adapter(embed, CALM, reduction=9)), "at most the 6 features, got 9"),
    (lambda: predictors.coop(embed, embed_prompt, CALM, np.zeros(3, "f")), r"context to be floating \[m, width\]"),
    (lambda: run(predictors.coop(embed, tower, CALM, np.zeros((1, 5), "f"))), r"context .*\[m, 8\], got"),
    (lambda: run(predictors.coop(embed, tower, CALM, np.zeros((7, 8), "f"))), "at most 9 tokens, got"),
    (lambda: predictors.leave_one_out(embed, []), "one or more candidates, got none"),
    (lambda: predictors.leave_one_out(embed, [predictors.ridge], folds=1), "folds to be a whole number of at least 2"),
  ],
)
def test_what_does_not_fit_is_refused_with_what_was_given(call, said):
  with pytest.raises(ValueError, match=said):
    call()


def test_too_many_context_vectors_for_the_tokens_are_refused():
  with pytest.raises(ValueError, match="at most 2 context vectors between 4 tokens, got 3"):
    TEXT.apply(PARAMS, STATE, NAMES, np.zeros((3, 8), "f"), train=False)


def test_prompted_episodes_are_the_tasks_of_episodes_with_the_prompts_of_their_classes():
  images = np.arange(24, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 1), np.uint8)
  source = from_arrays(images, np.arange(24) % 6)
  tokens = np.arange(6)[:, None] + np.array([[0, 100]])
  sizes = {"ways": 3, "shots": 2, "queries": 1, "meta_batch_size": 4, "seed": 3}
  batches = prompted_episodes(source, tokens, **sizes)
  both = batches()
  first, second = next(both), next(both)
  assert not np.array_equal(first.support.inputs.second, second.support.inputs.second)
  for batch in (first, second):
    of_image = batch.support.inputs.first[..., 0, 0, 0].astype(int) % 6
    np.testing.assert_array_equal(batch.support.inputs.second, tokens[of_image])
    of_query = batch.query.inputs[..., 0, 0, 0].astype(int) % 6
    np.testing.assert_array_equal(of_query, of_image[:, ::2])
  hosts = [next(batches(1, (host, 2))).support.inputs for host in (0, 1)]
  whole = jax.tree.map(lambda *parts: np.concatenate(parts), *hosts)
  jax.tree.map(np.testing.assert_array_equal, whole, second.support.inputs)
  with pytest.raises(ValueError, match=r"tokens to be integers \[6, length\]"):
    prompted_episodes(source, tokens[:5], **sizes)
