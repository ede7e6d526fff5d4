"""What a CLIP can do with pictures that it was not trained on: name them, find them, be probed."""

from collections.abc import Callable

import numpy as np

from experiments import records
from experiments.clip_data import CATEGORIES, Data, Test
from experiments.few_shot_data import slug
from metajax.data import Source, in_order
from metajax.evaluate import ZeroShot, class_embeddings, features, over_seeds, prompts, retrieval, summarise, zero_shot

BATCH = 256  # pictures or texts embedded at once
TEMPLATES = {"names": ("{}",), "groups": ("{}", "a picture of {}", "this is {}")}


def named(learner, params, state, test: Test, tokenize: Callable) -> ZeroShot:
  """Zero-shot classification of a test's pictures by the names of their classes or groups."""
  source, names, labels = test.source, [texts[0] for texts in test.source.captions], test.source.labels
  if test.kind == "groups":
    groups = sorted(set(source.groups))
    names = [CATEGORIES.get(group, group) for group in groups]
    labels = np.array([groups.index(group) for group in source.groups])[source.labels]
  texts, of_class = prompts(names, TEMPLATES[test.kind])
  classes = class_embeddings(learner.embed, params, state, tokenize(texts), of_class)
  found = features(learner.embed, params, state, in_order(source, batch_size=BATCH))
  return zero_shot(classes, found._replace(labels=labels))


def found(learner, params, state, test: Test, tokenize: Callable, captions: int | None = None) -> dict[str, dict]:
  """Retrieval of a test's pictures and captions, of each picture's first `captions` ones."""
  pictures = features(learner.embed, params, state, in_order(test.source, batch_size=BATCH))
  texts = [(i, text) for i, own in enumerate(test.source.captions) for text in own[:captions]]
  owner = np.array([i for i, _ in texts])
  tokens = tokenize([text for _, text in texts])
  embedded = class_embeddings(learner.embed, params, state, tokens, np.arange(len(texts)))
  order = np.argsort(pictures.labels)
  return retrieval(pictures.inputs[order], embedded, owner)


def measure(name: str, learner, trained, data: Data, tokenize: Callable, s, how: dict) -> list[dict]:
  """The records of all tests of networks, one a seed, and what is printed of them."""
  measured = []
  for test in data.tests:
    each = [_scores(learner, params, state, test, tokenize) for params, state in trained]
    for what, (_, chance) in each[0].items():
      score = over_seeds([scores[what][0] for scores in each])
      print(f"  {name}: {test.name}, {what.replace('_', ' ')}: {score}% (chance {chance:.2g}%)")
      measured.append(_record(name, test, what, score, chance, s, how))
  return measured


def _scores(learner, params, state, test, tokenize) -> dict:
  """`{measure: (Score, chance in percent)}` of one network on one test."""
  if test.kind == "captions":
    several = len(set(map(len, test.source.captions))) == 1
    ways = found(learner, params, state, test, tokenize, None if several else 1)
    number = len(test.source.classes)
    chance = lambda k: 100 * k / number  # also of a picture's texts, but for the second digit
    return {f"{way}_at_{k}": (score, chance(k)) for way, scores in ways.items() for k, score in scores.items()}
  result = named(learner, params, state, test, tokenize)
  classes = len(result.per_class)
  what = "zero_shot" if test.kind == "names" else "zero_shot_of_groups"
  return {what: (result.top_1, 100 / classes), f"{what}_top_5": (result.top_5, 100 * min(5, classes) / classes)}


def _record(name, test, what, score, chance, s, how) -> dict:
  said = {"data": slug(s), "split": test.name, "measure": what, "classes": len(test.source.classes)}
  said |= {"tested": len(test.source.labels), "value": round(score.mean, 2), "interval": round(score.interval, 2)}
  return records.record(learner=name, **said, chance=round(chance, 4), published=None, seeds=s.seeds, **how)


def by_pixels(data: Data, s) -> list[dict]:
  """The records of naming pictures by comparing their pixels, and what is printed of them."""
  measured = []
  for test in (test for test in data.tests if test.kind == "names"):
    score, chance = summarise(100.0 * nearest_names(data.train, test.source)), 100 / len(test.source.classes)
    print(f"  pixels, nearest name: {test.name}, zero shot: {score}% (chance {chance:.2g}%)")
    how = {"train_seconds": 0, "steps": 0, "seed": s.seed}
    measured.append(_record("pixels, nearest name", test, "zero_shot", score, chance, s, how))
  return measured


def nearest_names(known: Source, asked: Source) -> np.ndarray:
  """How often each picture is named rightly by the nearest known one: the name with the most words of that one's.

  Pixels cannot name what was never seen; this is how far comparing them goes. Of equal names any: 0 to 1, `[n]`.
  """
  words = lambda source: [frozenset(texts[0].split()) for texts in source.captions]
  shared = np.array([[len(a & b) / len(a | b) for b in words(asked)] for a in words(known)])
  flat = lambda images: np.float32(np.asarray(images)).reshape(len(images), -1) / 255
  library, right = flat(known.images[:]), []
  squares = np.square(library).sum(-1)
  for start in range(0, len(asked.labels), BATCH):
    part = slice(start, start + BATCH)
    nearest = known.labels[(squares - 2 * flat(asked.images[part]) @ library.T).argmin(-1)]
    best = shared[nearest] == shared[nearest].max(-1, keepdims=True)
    right.append(np.take_along_axis(best, asked.labels[part, None], 1)[:, 0] / best.sum(-1))
  return np.concatenate(right)
