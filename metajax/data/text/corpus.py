"""Corpora for language models, and batches of their tokens as pure functions of (seed, step)."""

import os
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from metajax import checks
from metajax.data._tensorflow import tf
from metajax.data.builtin.glyphs import glyphs
from metajax.data.files.opening import checked_name, open_regular
from metajax.data.load import check_how
from metajax.data.pipeline import check_batches, in_epochs, plain
from metajax.data.sharding import rows_of_host
from metajax.data.shards.captioned import ImageTexts
from metajax.data.shards.patterns import is_shards
from metajax.data.splits import PARTS
from metajax.data.text.captions import load_captioned
from metajax.data.text.tokenizer import MOST_TOKENS, Tokenizer
from metajax.paths import AnyPath
from metajax.types import Batches

SHARES = (0.8, 0.1, 0.1)  # of a file's characters, or of names: train, validation, test
SMALLEST = 8  # side of the images, which are not used


class Subjects(NamedTuple):
  """The texts of each subject, and the superclass of each; none where the corpus has none."""

  texts: tuple[tuple[str, ...], ...]
  superclasses: tuple[str, ...] = ()


def load_texts(
  name: AnyPath, split: str = "train", *, data_dir: AnyPath | None = None, download: bool = False, seed: int = 0
) -> tuple[tuple[str, ...], ...]:
  """Loads the texts of one part of a corpus, grouped by subject, e.g. the captions of an image.

  - "glyphs": the Unicode names of the characters of all scripts, distributed by `seed`.
  - a UTF-8 text file whose name ends with ".txt": a single text. "train" is the first 80% of its characters,
    "validation" and "test" are 10% each, cut at the end of a line if one is near.
  - any set of `load_captioned`: the captions of its images.

  Args:
    name: name of the corpus, or a path.
    split: "train", "validation" or "test".
    data_dir, download: as for `load_captioned`.
    seed: seed of the distribution of texts.

  Returns:
    A tuple of texts for each subject.

  Raises:
    FileNotFoundError, PermissionError: if a file cannot be opened.
    ValueError: if a file is not UTF-8 (the message names the first bad byte), or it or a part of it is empty; otherwise
      as for `load_captioned`.
  """
  return load_subjects(name, split, data_dir=data_dir, download=download, seed=seed).texts


def load_subjects(
  name: AnyPath, split: str = "train", *, data_dir: AnyPath | None = None, download: bool = False, seed: int = 0
) -> Subjects:
  """`load_texts`, with the superclass of each subject."""
  checks.choice("split", split, PARTS)
  name = checked_name(name, buckets=True)
  check_how(split, SMALLEST, seed, data_dir)
  checks.flag("download", download)
  if is_text_file(name):
    return Subjects(((_part_of_file(name, PARTS.index(split)),),))
  if name == "glyphs":
    names = sorted({text for texts in glyphs("all").captions for text in texts})
    order, ends = np.random.default_rng(seed).permutation(len(names)), _ends(len(names))
    part = PARTS.index(split)
    return Subjects(tuple((names[i],) for i in sorted(order[ends[part] : ends[part + 1]])))
  if os.path.isfile(name) and not name.endswith((".csv", ".jsonl")) and not is_shards(name):
    raise ValueError(f"expected a text file, whose name ends with .txt, or captions in a .csv or .jsonl, got {name!r}")
  found = load_captioned(name, split, size=SMALLEST, data_dir=data_dir, download=download, seed=seed)
  if isinstance(found, ImageTexts):
    return Subjects(tuple((text,) for text in found.texts(np.arange(len(found.images))) if text))
  return Subjects(found.captions, tuple(found.superclasses))


def token_rows(tokenizer: Tokenizer, texts: Sequence[str], max_length: int, *, start: bool = True) -> np.ndarray:
  """Tokenizes texts into rows for next-token prediction, padded with -1.

  A text is a start token (BOS), its tokens and an end token (EOS). A text that is longer than a row continues in the
  next row, which begins with the last token of the previous one: every token but the start is a prediction target
  exactly once.

  Args:
    tokenizer: a `Tokenizer`.
    texts: texts; an empty string is a start and an end.
    max_length: prediction targets per row.
    start: whether to add start and end tokens; False for excerpts of a longer text.

  Returns:
    Tokens, int32 `[rows, max_length + 1]`.

  Raises:
    TypeError: if `texts` is a single string, or an element is not a string.
    ValueError: if `max_length` is below 1, or no text has a prediction target.

  Example:
    >>> from metajax import data
    >>> tokenizer = data.train_tokenizer(["a cat", "a dog"], vocab_size=258)
    >>> data.token_rows(tokenizer, ["a cat", "dog"], max_length=4).shape
    (3, 5)
  """
  return rows_of_texts(tokenizer, texts, max_length, start=start)[0]


def rows_of_texts(
  tokenizer: Tokenizer, texts: Sequence[str], max_length: int, *, start: bool = True
) -> tuple[np.ndarray, np.ndarray]:
  """`token_rows`, and the index of each row's text: int32 `[rows, max_length + 1]` and `[rows]`."""
  checks.count("max_length", max_length, 1, MOST_TOKENS)
  checks.flag("start", start)
  rows, numbers = [], []
  for number, ids in enumerate(tokenizer.ids(texts)):
    tokens = [tokenizer.start, *ids, tokenizer.end] if start else ids
    own = [tokens[first : first + max_length + 1] for first in range(0, len(tokens) - 1, max_length)]
    rows += own
    numbers += [number] * len(own)
  if not rows:
    raise ValueError(f"expected a text of at least 2 tokens, got {len(texts)} texts, all shorter")
  return padded_rows(rows, max_length + 1), np.array(numbers, np.int32)


def padded_rows(ids: Sequence[Sequence[int]], width: int) -> np.ndarray:
  """The first tokens of each row, int32 `[rows, width]`, padded with -1."""
  found = np.full((len(ids), width), -1, np.int32)
  for row, tokens in zip(found, ids, strict=True):
    row[: len(tokens)] = tokens[:width]
  return found


def token_batches(rows: np.ndarray, *, batch_size: int, seed: int = 0) -> Batches:
  """Batches of token rows, epoch after epoch, in a uniformly random order that depends only on (seed, epoch).

  Args:
    rows: integers `[n, max_length + 1]`, e.g. from `token_rows`.
    batch_size: rows per batch, over all hosts.
    seed: any 64-bit integer.

  Returns:
    `batches(start=0, shard=(0, 1))`, as for `episodes`, of int32 `[batch_size/hosts, max_length + 1]`.

  Raises:
    ValueError: if `batch_size` is less than 1, or `rows` has another shape or type.
  """
  check_batches(batch_size, seed)
  rows = np.asarray(rows)
  checks.integers("rows", rows, "n", "length + 1", low=-(2**31), high=2**31)
  tokens = tf.constant(rows, tf.int32)

  def batches(start=0, shard=(0, 1)):
    offset, local = rows_of_host(start, shard, batch_size, "batch_size")
    take = plain(lambda order: tf.gather(tokens, order[offset : offset + local]))
    return in_epochs(len(rows), batch_size, seed, start).map(take).prefetch(tf.data.AUTOTUNE).as_numpy_iterator()

  return batches


def is_text_file(name: AnyPath) -> bool:
  """Whether the name of a corpus is that of a text file."""
  return os.fspath(name).lower().endswith(".txt")


def _part_of_file(path: str, part: int) -> str:
  with open_regular(path) as file:
    content = file.read()
  try:
    text = content.decode().removeprefix("\ufeff")  # byte order mark
  except UnicodeDecodeError as error:
    raise ValueError(f"{path!r} is not UTF-8 text: byte {error.start} is {content[error.start]:#04x}") from None
  if not text.strip():
    raise ValueError(f"expected a text in {path!r}, got {len(text)} characters of white space")
  first, after = (_line(text, end) for end in _ends(len(text))[part : part + 2])
  if not text[first:after].strip():
    raise ValueError(f"expected a text long enough for three parts, got {len(text)} characters in {path!r}")
  return text[first:after]


def _line(text: str, place: int) -> int:
  """The end of the line around a place, if it is near; else the place."""
  after = text.find("\n", place) + 1
  return after if place and 0 < after - place < len(text) // 50 else place


def _ends(count: int) -> list[int]:
  return [0, *np.rint(np.cumsum(SHARES) * count).astype(int).tolist()]
