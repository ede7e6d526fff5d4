"""Pairs of segments of text, of which the second follows the first, and texts with a category."""

import itertools
from typing import NamedTuple

import numpy as np

from experiments.families.data import ImageData
from experiments.families.image_flags import refuse_distribution
from metajax.checks import counted
from metajax.data import Tokenizer, load_captioned, load_texts, token_batches, train_tokenizer
from metajax.data.text.corpus import is_text_file
from metajax.experiment.terminal import printable
from metajax.types import Batches, Pair

PARTS = ("train", "validation", "test")
LEAST_CLASSES = 2


class Segments(NamedTuple):
  """Adjacent segments of texts, in tokens.

  Attributes:
    pairs: `{part: Pair of tokens [n, max_length]}`, padded with -1.
    about: `{part: index of the subject of each pair, [n]}`; intervals are over subjects.
    tokenizer: Tokenizer trained on the training texts.
  """

  pairs: dict[str, Pair]
  about: dict[str, np.ndarray]
  tokenizer: Tokenizer


class Texts(NamedTuple):
  """Texts with their category, as a part of a probe.

  Attributes:
    tokens: `[n, max_length]`, padded with -1.
    labels: Category of each, `[n]`.
    classes: Names of the categories.
  """

  tokens: np.ndarray
  labels: np.ndarray
  classes: tuple[str, ...]


def load_segments(data: ImageData, vocab_size: int, max_length: int) -> Segments:
  """Loads a corpus as pairs of adjacent texts of one subject, or of adjacent stretches of one long text.

  Raises:
    ValueError, OSError: as `metajax.data.load_texts`, or if a part has fewer than two pairs.
  """
  refuse_distribution(data, "texts")
  groups = {part: load_texts(data.data, part, download=data.download) for part in PARTS}
  in_parts = is_text_file(data.data)
  tokenizer = train_tokenizer([text for group in groups["train"] for text in group], vocab_size, verbatim=in_parts)
  pairs, about = {}, {}
  for part, some in groups.items():
    ids = [_stretches(tokenizer, group[0], max_length) if in_parts else tokenizer.ids(group) for group in some]
    found = [(i, *two) for i, own in enumerate(ids) for two in itertools.pairwise(own)]
    if len(found) < 2:
      given = f"{counted(len(found), 'pair')} of adjacent texts in the {part} part of {data.data!r}"
      raise ValueError(f"expected two or more, of subjects with several texts each or of a long text, got {given}")
    pairs[part] = Pair(*(rows_of([one[k] for one in found], max_length) for k in (1, 2)))
    about[part] = np.arange(len(found)) // 8 if in_parts else np.array([i for i, *_ in found])
  longer = sum(len(one) > max_length for part in groups.values() for group in part for one in tokenizer.ids(group))
  cut = f"; {counted(longer, 'text')} of more than {max_length} tokens are cut" * bool(longer and not in_parts)
  sizes = ", ".join(f"{len(pairs[part].first):,} pairs for {part}" for part in PARTS)
  print(f"{printable(data.data)}: vocabulary of {tokenizer.vocab_size:,} tokens; {sizes}{cut}")
  return Segments(pairs, about, tokenizer)


def load_categories(data: ImageData, tokenizer: Tokenizer, max_length: int) -> tuple[Texts, ...] | None:
  """The texts of each part with the category of their image; None if the corpus has none."""
  if is_text_file(data.data) or data.data == "glyphs":
    return None
  found = [load_captioned(data.data, part, size=8, download=data.download) for part in PARTS]
  of_image = [getattr(one, "superclasses", ()) for one in found]
  classes = tuple(sorted(set(of_image[0])))
  if len(classes) < LEAST_CLASSES:
    return None
  parts = []
  for one, names in zip(found, of_image, strict=True):
    known = [(own, classes.index(name)) for own, name in zip(one.captions, names, strict=True) if name in classes]
    texts = [(text, label) for own, label in known for text in own]
    tokens = rows_of(tokenizer.ids([text for text, _ in texts]), max_length)
    parts.append(Texts(tokens, np.array([label for _, label in texts]), classes))
  return tuple(parts)


def batches_of(pair: Pair, batch_size: int, seed: int) -> Batches:
  """Batches of pairs, in an order that depends on the seed and the epoch alone."""
  width = pair.first.shape[1]
  rows = token_batches(np.concatenate(pair, 1), batch_size=batch_size, seed=seed)
  return lambda start=0, shard=(0, 1): (Pair(one[:, :width], one[:, width:]) for one in rows(start, shard))


def rows_of(ids: list[list[int]], max_length: int) -> np.ndarray:
  """The first tokens of each text, `[n, max_length]`, padded with -1."""
  rows = np.full((len(ids), max_length), -1, np.int32)
  for row, own in zip(rows, ids, strict=True):
    row[: len(own)] = own[:max_length]
  return rows


def _stretches(tokenizer: Tokenizer, text: str, max_length: int) -> list[list[int]]:
  ids = tokenizer.ids([text])[0]
  return [ids[first : first + max_length] for first in range(0, len(ids), max_length)]
