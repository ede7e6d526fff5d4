"""Naming images and finding them by texts: as slow loops have it, and at chance where nothing is known."""

import numpy as np
import pytest

from metajax import Examples
from metajax.evaluate import prompts, retrieval, zero_shot, zero_shot_classifier
from metajax.predictors.logits import centroid_cosines

random = np.random.default_rng(0)
IMAGES = random.normal(size=(12, 6)).astype(np.float32)
OWNER = np.array([i for i in range(12) for _ in range(1 + i % 3)])
TEXTS = (IMAGES[OWNER] + 1.5 * random.normal(size=(len(OWNER), 6))).astype(np.float32)
unit = lambda x: x / np.linalg.norm(x, axis=-1, keepdims=True)


def test_recall_is_that_of_sorting_with_several_texts_an_image():
  order = random.permutation(len(TEXTS))
  found = retrieval(IMAGES, TEXTS[order], OWNER[order], at=(1, 3, 5))
  cosines = unit(IMAGES) @ unit(TEXTS).T
  for k in (1, 3, 5):
    to_text = [len(set(np.argsort(-row)[:k]) & set(np.flatnonzero(i == OWNER))) > 0 for i, row in enumerate(cosines)]
    to_image = [OWNER[j] in np.argsort(-column)[:k] for j, column in enumerate(cosines.T)]
    assert found["image_to_text"][k].mean == pytest.approx(100 * np.mean(to_text))
    assert found["text_to_image"][k].mean == pytest.approx(100 * np.mean(to_image))


def test_embeddings_that_are_all_the_same_find_as_often_as_chance():
  found = retrieval(np.ones((12, 4)), np.ones((len(OWNER), 4)), OWNER, at=(1, 5))
  assert found["text_to_image"][1].mean == pytest.approx(100 / 12)
  assert found["text_to_image"][5].mean == pytest.approx(500 / 12)
  total, counts = len(OWNER), np.bincount(OWNER)
  missed = lambda own, k: np.prod([(total - own - i) / (total - i) for i in range(k)])
  for k in (1, 5):
    expected = 100 * np.mean([1 - missed(own, k) for own in counts])
    assert found["image_to_text"][k].mean == pytest.approx(expected)
  same = zero_shot(np.ones((8, 4)), Examples(np.ones((16, 4)), np.arange(16) % 8))
  assert same.top_1.mean == pytest.approx(100 / 8) and same.top_5.mean == pytest.approx(500 / 8)


def test_zero_shot_takes_the_nearest_class_and_says_how_each_fares():
  labels = random.integers(0, 7, 40)
  classes, inputs = random.normal(size=(7, 6)), random.normal(size=(40, 6))
  found = zero_shot(classes, Examples(inputs, labels))
  cosines = unit(inputs) @ unit(classes).T
  right = cosines.argmax(-1) == labels
  assert found.top_1.mean == pytest.approx(100 * right.mean())
  among_5 = (np.argsort(-cosines, -1)[:, :5] == labels[:, None]).any(-1)
  assert found.top_5.mean == pytest.approx(100 * among_5.mean())
  for k in np.unique(labels):
    assert found.per_class[k] == pytest.approx(100 * right[labels == k].mean())
  np.testing.assert_allclose(found.cosines, cosines, atol=1e-6)
  few = zero_shot(classes[:3], Examples(inputs, labels % 2))
  assert few.top_5.mean == 100 and np.isnan(few.per_class[2])


def test_a_class_is_the_mean_of_its_prompts_as_predict_has_it():
  """Normalized, averaged, normalized again (arXiv:2103.00020)."""
  texts, of_class = prompts(["dog", "big {} cat"], ["a {}", "the {} of {}"])
  assert texts == ["a dog", "the dog of dog", "a big {} cat", "the big {} cat of big {} cat"]
  assert of_class.tolist() == [0, 0, 1, 1]
  table = random.normal(size=(9, 6)).astype(np.float32)
  embed = lambda params, state, tokens: params[tokens[:, 0]]
  tokens = np.arange(4)[:, None]
  found = zero_shot_classifier(embed, table, {}, tokens, of_class)
  np.testing.assert_allclose(found, unit(unit(table[:4]).reshape(2, 2, 6).mean(1)), rtol=1e-5)
  cosines = centroid_cosines(unit(table[:4]), np.eye(2)[of_class], table)
  np.testing.assert_allclose(unit(table) @ found.T, cosines, atol=1e-5)


@pytest.mark.parametrize(
  ("call", "said"),
  [
    (lambda: retrieval(IMAGES, TEXTS[:, :5], OWNER), r"got \[12, 6\], \[\d+, 5\]"),
    (lambda: retrieval(IMAGES, TEXTS, np.zeros_like(OWNER)), "a text for each of the 12 images, got texts of 1"),
    (lambda: retrieval(IMAGES, TEXTS, OWNER, at=(0,)), r"recall at 1 or more, got \[0\]"),
    (
      lambda: retrieval(IMAGES * np.nan, TEXTS, OWNER),
      "embeddings of images to be finite, got 12 of 12 rows that are not: 0, 1",
    ),
    (lambda: zero_shot(np.ones((3, 4)), Examples(np.ones((2, 5)), np.array([0, 1]))), r"got \[2, 5\], \[2\]"),
    (
      lambda: zero_shot(np.ones((3, 4)), Examples(np.ones((2, 4)), np.array([0, 3]))),
      r"labels from 0 to 2, got \[0, 3\]",
    ),
    (lambda: prompts([]), "expected at least one class, got none"),
    (lambda: prompts(["a"], ["no place"]), "a place {} for the class, got 'no place'"),
    (lambda: zero_shot_classifier(None, {}, {}, np.ones((2, 3)), np.zeros(1)), "got 2 prompts and 1 class"),
  ],
)
def test_what_does_not_fit_is_refused(call, said):
  with pytest.raises((ValueError, FloatingPointError), match=said):
    call()
