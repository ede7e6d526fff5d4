"""Pairs of segments of text, of which the second follows the first, and texts with a category."""

import itertools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from experiments.families.data import ImageData
from experiments.families.image_flags import refuse_distribution
from experiments.families.language.corpus import PARTS, TOGETHER
from metajax.checks import counted
from metajax.data import Tokenizer, token_batches, train_tokenizer
from metajax.data.text.corpus import Subjects, is_text_file, load_subjects, padded_rows
from metajax.experiment.terminal import printable
from metajax.types import Batches, Pair

LEAST_CLASSES = 2
Ids = list[list[list[int]]]  # the tokens of each text of each subject


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


class Segments(NamedTuple):
  """Adjacent segments of texts, in tokens.

  Attributes:
    pairs: `{part: Pair of tokens [n, max_length]}`, padded with -1.
    about: `{part: index of the subject of each pair, [n]}`; intervals are over subjects.
    tokenizer: Tokenizer trained on the training texts.
    categories: The texts of each part with the category of their subject; None if the corpus has none.
  """

  pairs: dict[str, Pair]
  about: dict[str, np.ndarray]
  tokenizer: Tokenizer
  categories: tuple[Texts, ...] | None = None


def load_segments(data: ImageData, vocab_size: int, max_length: int) -> Segments:
  """Loads a corpus as pairs of adjacent texts of one subject, or of adjacent stretches of one long text.

  Raises:
    ValueError, OSError: as `metajax.data.load_texts`, or if a part has fewer than two pairs.
  """
  refuse_distribution(data, "texts")
  subjects = {part: load_subjects(data.data, part, download=data.download) for part in PARTS}
  in_parts = is_text_file(data.data)
  texts = [text for group in subjects["train"].texts for text in group]
  tokenizer = train_tokenizer(texts, vocab_size, verbatim=in_parts)
  ids = {part: _ids(tokenizer, one.texts) for part, one in subjects.items()}
  if in_parts:
    ids = {part: [_stretches(own, max_length)] for part, ((own,),) in ids.items()}
  pairs, about = {}, {}
  for part, some in ids.items():
    found = [(i, *two) for i, own in enumerate(some) for two in itertools.pairwise(own)]
    if len(found) < 2:
      given = f"{counted(len(found), 'pair')} of adjacent texts in the {part} part of {data.data!r}"
      raise ValueError(f"expected two or more, of subjects with several texts each or of a long text, got {given}")
    pairs[part] = Pair(*(padded_rows([one[k] for one in found], max_length) for k in (1, 2)))
    about[part] = np.arange(len(found)) // TOGETHER if in_parts else np.array([i for i, *_ in found])
  longer = sum(len(one) > max_length for some in ids.values() for own in some for one in own)
  cut = f"; {counted(longer, 'text')} of more than {max_length} tokens are cut" * bool(longer)
  sizes = ", ".join(f"{len(pairs[part].first):,} pairs for {part}" for part in PARTS)
  print(f"{printable(data.data)}: vocabulary of {tokenizer.vocab_size:,} tokens; {sizes}{cut}")
  return Segments(pairs, about, tokenizer, _categories(subjects, ids, max_length))


def batches_of(pair: Pair, batch_size: int, seed: int) -> Batches:
  """Batches of pairs, in an order that depends on the seed and the epoch alone."""
  width = pair.first.shape[1]
  rows = token_batches(np.concatenate(pair, 1), batch_size=batch_size, seed=seed)
  return lambda start=0, shard=(0, 1): (Pair(one[:, :width], one[:, width:]) for one in rows(start, shard))


def _ids(tokenizer: Tokenizer, texts: Sequence[Sequence[str]]) -> Ids:
  """The tokens of each text of each subject, all tokenized together."""
  ids = iter(tokenizer.ids([text for group in texts for text in group]))
  return [list(itertools.islice(ids, len(group))) for group in texts]


def _stretches(ids: list[int], max_length: int) -> list[list[int]]:
  return [ids[first : first + max_length] for first in range(0, len(ids), max_length)]


def _categories(subjects: Mapping[str, Subjects], ids: Mapping[str, Ids], max_length: int) -> tuple[Texts, ...] | None:
  classes = tuple(sorted(set(subjects["train"].superclasses)))
  if len(classes) < LEAST_CLASSES:
    return None
  parts = []
  for part, some in ids.items():
    known = [(own, classes.index(name)) for own, name in zip(some, subjects[part].superclasses, strict=True)
             if name in classes]  # fmt: skip
    found = [(one, label) for own, label in known for one in own]
    tokens = padded_rows([one for one, _ in found], max_length)
    parts.append(Texts(tokens, np.array([label for _, label in found]), classes))
  return tuple(parts)
