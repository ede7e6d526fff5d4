"""Classes of characters, each a list of code points: identical looks share a class, and splits share no class."""

import numpy as np

from metajax.data.builtin.glyphs.characters import FACES, SPLITS, Characters, priority
from metajax.data.builtin.glyphs.images import RANDOM, draw_character

NEAR = 0.1  # characters of two splits count as the same if their squared distance is below this fraction of their ink


def classes_of(characters: Characters) -> list[list[int]]:
  """Merges characters that are identical in a face and drops those that look like an earlier split's; sorted lists."""
  first = {}  # (face, image) -> the first character with that image
  joined = {point: [point] for point, _ in characters}
  for (point, face), image in characters.items():
    other = first.setdefault((face, image.size, image.tobytes()), point)
    if joined[other] is not joined[point]:
      joined[other] += joined[point]
      joined.update(dict.fromkeys(joined[point], joined[other]))
  for points in joined.values():
    points.sort(key=priority)
  near = _near_an_earlier_split(characters, {point: priority(points[0])[0] for point, points in joined.items()})
  classes = {points[0]: points for points in joined.values() if near.isdisjoint(points)}
  return [classes[point] for point in sorted(classes, key=priority)]


def _near_an_earlier_split(characters, splits):
  """The code points whose image in some face nearly equals that of a character of an earlier split."""
  near = set()
  for face in FACES:
    points = np.array([point for point, other in characters if other == face])
    split = np.array([splits[point] for point in points])
    if len(set(split)) < 2:
      continue
    images = [draw_character(characters[point, face], 28, 0.0, np.zeros(RANDOM)).reshape(-1) for point in points]
    images = np.stack(images).astype(np.float64)  # sums of integers are exact in any order
    ink = np.sum(images**2, axis=1)
    for later in range(1, len(SPLITS)):
      a, b = np.flatnonzero(split == later), np.flatnonzero(split < later)
      distance = ink[a, None] + ink[b] - 2 * images[a] @ images[b].T
      near.update(points[a[(distance < NEAR * np.maximum(ink[a, None], ink[b])).any(axis=1)]].tolist())
  return near
