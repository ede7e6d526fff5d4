"""What public functions give, in NumPy and 64 bits, slowly and from the formulas; `Invalid` where nothing is right."""

import itertools

import numpy as np
from scipy.special import logsumexp


class Invalid(Exception):
  """No number is right for these arguments."""


def need(condition):
  if not condition:
    raise Invalid


def array(x, *shape):
  """Real numbers of a shape, in which a character is any size, in 64 bits: lists are as good as arrays."""
  try:
    x = np.asarray(x)
    need(x.dtype.kind not in "OUSc" and (x.dtype.kind != "b" or x.ndim))
    x = x.astype(np.float64)
  except (ValueError, TypeError) as error:
    raise Invalid from error
  if shape[:1] == (...,):
    need(x.ndim >= len(shape) - 1)
    return x
  need(x.ndim == len(shape))
  need(all(isinstance(size, str) or size == there for size, there in zip(shape, x.shape, strict=True)))
  return x


def number(x, low=-np.inf, above=-np.inf):
  x = array(_float(x))
  need(low <= x < np.inf and x > above)
  return float(x)


def _float(x):
  """A whole number of Python's, of any number of digits, as a float."""
  return float(x) if isinstance(x, int) and not isinstance(x, bool) else x


def whole(x, *shape, low=0, high=np.inf):
  """Integers in a range."""
  need(np.asarray(x).dtype.kind in "iu" and not isinstance(x, bool))
  x = array(x, *shape)
  need(((low <= x) & (x < high)).all())
  return x.astype(int)


def one_hot(x, *shape):
  """Rows with a single 1, or all zero, and which these are."""
  x = np.asarray(x).astype(float) if np.asarray(x).dtype == bool else x
  given, x = np.asarray(x), array(x, *shape)
  need(x.shape[-1] > 0 and not (x.shape[-1] == 1 and given.dtype.kind in "iu"))
  need(((x == 0) | (x == 1)).all() and (x.sum(-1) <= 1).all())
  return x, x.any(-1)


def shares(x, *shape):
  given, x = np.asarray(x), array(x, *shape)
  need(x.shape[-1] > 0 and not (x.shape[-1] == 1 and given.dtype.kind in "iu"))
  need((x >= 0).all() and (x.sum(-1) <= 1.01).all())
  return x


def mean(values, weights):
  there = weights != 0
  return np.sum(values[there] * weights[there]) / (weights.sum() or 1)


def unit(x):
  need(x.shape[-1] > 0)
  size = np.linalg.norm(x, axis=-1, keepdims=True)
  return x / np.where(size == 0, 1, size)


# Losses.


def cross_entropy(logits, labels):
  labels = shares(labels, "n", "ways")
  logits = array(logits, *labels.shape)
  return mean(*_row_losses(logits, labels, lambda z, y: (logsumexp(z) - z) @ y))


def mse(scores, labels):
  labels = shares(labels, "n", "ways")
  scores = array(scores, *labels.shape)
  weights = labels.sum(-1)
  return mean(np.square(scores - labels).mean(-1), weights)


def accuracy(logits, labels):
  labels = shares(labels, "n", "ways")
  logits = array(logits, *labels.shape)
  right = np.where(np.isnan(logits).any(-1), np.nan, logits.argmax(-1) == labels.argmax(-1))
  return mean(right, labels.sum(-1))


def row_weights(labels):
  return shares(labels, ..., "ways").sum(-1)


def binary_cross_entropy(logits, labels):
  labels, there = one_hot(labels, "n", 2)
  logits = array(logits, len(labels))
  return mean(np.logaddexp(0, np.where(labels[:, 1] == 1, -logits, logits)), there * 1.0)


def relations(pairwise, labels):
  labels, there = one_hot(labels, "n", "ways")
  pairwise = array(pairwise, len(labels), len(labels))
  same = labels @ labels.T > 0
  both = there[:, None] & there
  return pairwise, both & same & ~np.eye(len(labels), dtype=bool), both & ~same


def batch_cross_entropy(logits, labels):
  z, same, other = relations(logits, labels)
  return (mean(np.logaddexp(0, -z), same * 1.0) + mean(np.logaddexp(0, z), other * 1.0)) / 2


def hinge(margin):
  if isinstance(margin, str):
    need(margin == "soft")
    return lambda x: np.logaddexp(0, x)
  margin = number(margin, above=0)
  return lambda x: np.maximum(0, x + margin)


def triplet_margin(anchor, positive, negative, margin):
  anchor = array(anchor, "n", "d")
  positive, negative = array(positive, *anchor.shape), array(negative, *anchor.shape)
  need(len(anchor))
  distance = lambda x: np.square(anchor - x).sum(-1)
  return hinge(margin)(distance(positive) - distance(negative)).mean()


def batch_hard(distances, labels, margin):
  d, same, other = relations(distances, labels)
  loss = hinge(margin)
  each = [loss(row[s].max() - row[o].min()) for row, s, o in zip(d, same, other, strict=True) if s.any() and o.any()]
  return np.mean(each) if each else 0.0


def batch_semi_hard(distances, labels, margin):
  d, same, other = relations(distances, labels)
  loss, each = hinge(margin), []
  for row, positives, negatives in zip(d, same, other, strict=True):
    for p in np.flatnonzero(positives) if negatives.any() else ():
      beyond = row[negatives][~(row[negatives] <= row[p])]
      each.append(loss(row[p] - (beyond.min() if beyond.size else row[negatives].max())))
  return np.mean(each) if each else 0.0


def squared_error(outputs, targets):
  targets = array(targets, ...)
  outputs = array(outputs, *targets.shape)
  need(outputs.size)
  return np.square(outputs - targets).mean()


def masked_reconstruction(reconstructed, patches, masked):
  patches = array(patches, "n", "patches", "pixels")
  reconstructed, masked = array(reconstructed, *patches.shape), array(masked, *patches.shape[:2])
  need((masked >= 0).all() and np.isfinite(masked).all() and patches.shape[-1])
  return mean(np.square(reconstructed - patches).mean(-1), masked)


def normalized_patches(patches):
  patches = array(patches, ..., "pixels")
  need(patches.shape[-1] > 1)
  return (patches - patches.mean(-1, keepdims=True)) / np.sqrt(patches.var(-1, ddof=1, keepdims=True) + 1e-6)


def _pair_weights(weights, rows):
  if weights is None:
    return np.ones(rows)
  weights = array(weights, rows)
  need((weights >= 0).all() and np.isfinite(weights).all())
  return weights


def _row_losses(logits, labels, loss):
  """The loss of each row that weighs, and the weights of all."""
  weights = labels.sum(-1)
  each = [loss(z, y) / w if w else 0.0 for z, y, w in zip(logits, labels, weights, strict=True)]
  return np.array(each, float).reshape(len(labels)), weights


def _towers(first, second, scale, weights):
  """The logits of the pairs that weigh, and their weights."""
  first, scale = array(first, "n", "d"), number(scale, above=0)
  second = array(second, *first.shape)
  need(first.size)
  weights = _pair_weights(weights, len(first))
  there = weights > 0
  return scale * unit(first[there]) @ unit(second[there]).T, weights[there]


def info_nce(first, second, scale, weights):
  logits, weights = _towers(first, second, scale, weights)
  if not len(weights):
    return 0.0
  each = (logsumexp(logits, 0) + logsumexp(logits, 1)) / 2 - np.diag(logits)
  return mean(each, weights)


def siglip(first, second, scale, bias, weights):
  logits, weights = _towers(first, second, scale, weights)
  logits = logits + array(_float(bias))
  if not len(weights):
    return 0.0
  each = np.logaddexp(0, -(2 * np.eye(len(logits)) - 1) * logits)
  return (each * (weights[:, None] + weights) / 2).sum() / weights.sum()


def nt_xent(embeddings, temperature, weights):
  embeddings = array(embeddings, "n", "d")
  need(len(embeddings) % 2 == 0)
  return _contrastive(embeddings, np.arange(len(embeddings)) // 2, temperature, weights)


def supervised_contrastive(embeddings, labels, temperature, weights):
  embeddings = array(embeddings, "n", "d")
  if np.ndim(labels) == 1:
    labels = whole(labels, len(embeddings), low=-1)
    there = labels >= 0
  else:
    labels, there = one_hot(labels, len(embeddings), "ways")
    labels = labels.argmax(-1)
  weights = _pair_weights(weights, len(embeddings)) * there
  return _contrastive(embeddings, labels, temperature, weights)


def _contrastive(embeddings, labels, temperature, weights):
  temperature = number(temperature, above=0)
  need(embeddings.size)
  weights = _pair_weights(weights, len(embeddings))
  there = weights > 0
  rows, labels, weights = unit(embeddings[there]), labels[there], weights[there]
  logits = rows @ rows.T / temperature
  losses, counted = [], []
  for i, row in enumerate(logits):
    other = np.arange(len(rows)) != i
    positives = other & (labels == labels[i])
    if positives.any():
      losses.append((logsumexp(row[other]) - row[positives]).mean())
      counted.append(weights[i])
  return mean(np.array(losses), np.array(counted)) if losses else 0.0


def logit_scale(log_scale):
  log_scale = array(_float(log_scale))
  return np.exp(np.minimum(log_scale, np.log(100)))


def linear_cross_entropy(features, embedding, labels, weights):
  each = -linear_log_prob(features, embedding, labels)
  labels = np.asarray(labels)
  weights = np.ones(labels.shape) if weights is None else array(weights, *labels.shape)
  need((weights >= 0).all() and np.isfinite(weights).all())
  return mean(each, weights * (labels >= 0))


def linear_log_prob(features, embedding, labels):
  embedding = array(embedding, "vocabulary", "d")
  labels = whole(labels, *np.shape(labels), low=-1, high=len(embedding))
  features = array(features, *labels.shape, embedding.shape[1])
  need(embedding.size)
  logits = features @ embedding.T
  each = np.take_along_axis(logits, np.maximum(labels, 0)[..., None], -1)[..., 0] - logsumexp(logits, -1)
  return np.where(labels < 0, 0, each)


# Predictors.


def _compared(support, labels, queries):
  labels, there = one_hot(labels, "s", "ways")
  support = array(support, len(labels), "d")
  queries = array(queries, "n", support.shape[1])
  return support[there], labels[there], queries


def _without_empty(logits, labels):
  there = labels.any(0)
  least = np.where(there, logits, 0).min(-1, keepdims=True)
  lowest = np.finfo(np.float32).min
  return np.where(there, logits, np.maximum(np.minimum(-1e9, 2 * least), lowest))


def ridge_logits(support, labels, queries, l2):
  x, y, queries = _compared(support, labels, queries)
  l2 = number(l2, above=0)
  return _without_empty(queries @ np.linalg.solve(x.T @ x + l2 * np.eye(x.shape[1]), x.T @ y), y)


def class_means(support, labels):
  labels, _ = one_hot(labels, "s", "ways")
  support = array(support, ...)
  need(support.ndim >= 1 and len(support) == len(labels))
  none = np.zeros(support.shape[1:])
  return np.stack([support[labels[:, k] == 1].mean(0) if labels[:, k].any() else none for k in range(labels.shape[1])])


def centroid_logits(support, labels, queries):
  x, y, queries = _compared(support, labels, queries)
  return _without_empty(-squared_distances(queries, class_means(x, y)), y)


def centroid_cosines(support, labels, queries):
  x, y, queries = _compared(support, labels, queries)
  return _without_empty(cosines(queries, class_means(x, y)), y)


def largest_by_way(scores, labels):
  labels, _ = one_hot(labels, "s", "ways")
  scores = array(scores, "n", len(labels))
  none = np.zeros(len(scores))
  best = [scores[:, way == 1].max(1) if way.any() else none for way in labels.T]
  return _without_empty(np.stack(best, 1), labels)


def nearest_logits(support, labels, queries):
  x, y, queries = _compared(support, labels, queries)
  return largest_by_way(-squared_distances(queries, x), y)


def attention_logits(support, labels, queries, scale):
  x, y, queries = _compared(support, labels, queries)
  each = number(scale, above=0) * cosines(queries, x)
  of_way = [logsumexp(each[:, k], -1) if k.any() else np.zeros(len(each)) for k in y.T == 1]
  return _without_empty(np.stack(of_way, 1), y)


def attention(scores, labels):
  labels, there = one_hot(labels, "s", "ways")
  scores = array(scores, ..., "s")
  need(scores.ndim >= 1 and scores.shape[-1] == len(labels))
  if not there.any():
    return np.zeros(scores.shape)
  known = np.where(there, scores, -np.inf)
  return np.where(there, np.exp(known - logsumexp(known, -1, keepdims=True)), 0)


def cosines(first, second):
  first = array(first, "n", "d")
  return unit(first) @ unit(array(second, "m", first.shape[1])).T


def squared_distances(first, second):
  first = array(first, "n", "d")
  return np.square(first[:, None] - array(second, "m", first.shape[1])).sum(-1)


def without_empty_ways(logits, labels):
  labels, _ = one_hot(labels, "s", "ways")
  logits = array(logits, ..., "ways")
  need(logits.ndim >= 1 and logits.shape[-1] == labels.shape[1])
  return _without_empty(logits, labels)


def unit_rows(features):
  features = array(features, ..., "d")
  need(features.ndim >= 1)
  return unit(features)


# Scores.


def _finite(*arrays):
  need(all(np.isfinite(x).all() for x in arrays))


def mean_and_ci(scores):
  from scipy.stats import sem, t

  scores = array(scores, "n")
  need(scores.size)
  _finite(scores)
  return scores.mean(), (np.inf if len(scores) == 1 else t.ppf(0.975, len(scores) - 1) * sem(scores))


def ratio_with_interval(totals, counts):
  totals = array(totals, "n")
  counts = array(counts, len(totals))
  _finite(totals, counts)
  need(len(totals) > 1 and (counts > 0).all())
  return totals.sum() / counts.sum()


def zero_shot(classes, inputs, labels):
  classes = array(classes, "classes", "d")
  inputs = array(inputs, "n", classes.shape[1])
  labels = whole(labels, len(inputs), high=len(classes))
  _finite(classes, inputs)
  need(inputs.size and classes.size)
  near = unit(inputs) @ unit(classes).T
  return near, 100 * _recall(near, np.eye(len(classes), dtype=bool)[labels])


def _recall(near, own):
  """How often the nearest is one's own, of equals any one."""
  best = np.isclose(near, near.max(-1, keepdims=True), rtol=0, atol=1e-6)
  return np.mean((best & own).sum(-1) / best.sum(-1))


def retrieval(images, texts, owner):
  images = array(images, "n", "d")
  texts = array(texts, "m", images.shape[1])
  owner = whole(owner, len(texts), high=max(len(images), 1))
  _finite(images, texts)
  need(images.size and len(np.unique(owner)) == len(images))
  own = owner[:, None] == np.arange(len(images))
  near = unit(texts) @ unit(images).T
  return 100 * _recall(near, own), 100 * _recall(near.T, own.T)


def nearest_classes(known, labels, asked, k):
  known = array(known, "n", "d")
  labels, asked = whole(labels, len(known)), array(asked, "m", known.shape[1])
  _finite(known, asked)
  k = whole(k, low=1, high=len(known) + 1)
  need(known.size and asked.size)
  near = unit(asked) @ unit(known).T
  found = []
  for row in near:
    best = np.argsort(-row, kind="stable")[:k]
    votes = np.zeros(labels.max() + 1)
    np.add.at(votes, labels[best], np.exp(row[best] / 0.07))
    found.append(votes.argmax())
  return np.array(found)


# Images as patches and as tokens.


def patchify(images, patch):
  images, patch = array(images, "n", "h", "w", "c"), whole(patch, low=1)
  n, h, w, c = images.shape
  need(h % patch == 0 and w % patch == 0)
  cut = [images[:, y : y + patch, x : x + patch] for y in range(0, h, patch) for x in range(0, w, patch)]
  return np.stack([x.reshape(n, patch * patch * c) for x in cut], 1) if cut else np.zeros((n, 0, patch * patch * c))


def unpatchify(patches, patch):
  patches, patch = array(patches, "n", "patches", "values"), whole(patch, low=1)
  n, count, values = patches.shape
  side, channels = round(count**0.5), values // patch**2
  need(side * side == count and channels * patch**2 == values)
  images = np.zeros((n, side * patch, side * patch, channels))
  for i in range(count):
    y, x = i // side * patch, i % side * patch
    images[:, y : y + patch, x : x + patch] = patches[:, i].reshape(n, patch, patch, channels)
  return images


def to_palette(images, palette):
  palette = array(palette, "colors", "c")
  images = array(images, "n", "h", "w", palette.shape[1])
  need(len(palette) and images.shape[1] == images.shape[2] and not ((images < 0) | (images > 1)).any())
  _finite(palette)
  distances = np.square(images[..., None, :] - palette).sum(-1)
  nearest = np.where(np.isnan(distances).any(-1), -2, distances.argmin(-1))
  return nearest.reshape(len(images), images.shape[1] * images.shape[2])


def bigram(train, validation, test):
  for rows in (train, validation, test):
    rows = whole(rows, "rows", "length", low=-1, high=5)
    need((rows[:, 1:] >= 0).any() and ((rows[:, :-1] >= 0) | (rows[:, 1:] < 0)).all())
  pairs = lambda rows: [(a, b) for row in rows for a, b in itertools.pairwise(row) if b >= 0]
  known = pairs(train)

  def log_probability(a, b, k, s):
    alone = (sum(y == b for _, y in known) + s) / (len(known) + 5 * s)
    return np.log((known.count((a, b)) + k * alone) / (sum(x == a for x, _ in known) + k))

  strengths = 2.0 ** np.arange(-6, 15, 2)
  mean_of = lambda k, s: np.mean([log_probability(*pair, k, s) for pair in pairs(validation)])
  value = {(k, s): mean_of(k, s) for k in strengths for s in strengths}
  return np.array([log_probability(*pair, *max(value, key=value.get)) for pair in pairs(test)])


def from_palette(tokens, palette):
  palette = array(palette, "colors", "c")
  tokens = whole(tokens, "n", "places", high=len(palette))
  side = round(tokens.shape[1] ** 0.5)
  need(side * side == tokens.shape[1])
  return palette[tokens].reshape(len(tokens), side, side, palette.shape[1])
