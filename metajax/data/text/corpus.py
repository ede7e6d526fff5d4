"""Texts to be continued: where they come from, and batches of their tokens as pure functions of (seed, step)."""

import os
from collections.abc import Sequence

import numpy as np

from metajax import checks
from metajax.data._tensorflow import tf
from metajax.data.builtin.glyphs import glyphs
from metajax.data.files.opening import checked_name, open_regular
from metajax.data.load import check_how
from metajax.data.pipeline import check_batches, in_epochs, plain
from metajax.data.sharding import rows_of_host
from metajax.data.splits import PARTS
from metajax.data.text.captions import load_captioned
from metajax.data.text.tokenizer import MOST_TOKENS, Tokenizer
from metajax.paths import AnyPath
from metajax.types import Batches

SHARES = (0.8, 0.1, 0.1)  # of a file's characters, or of names: to train with, to choose by, to test on
SMALLEST = 8  # pixels of images that no one looks at


def load_texts(
  name: AnyPath, split: str = "train", *, data_dir: AnyPath | None = None, download: bool = False, seed: int = 0
) -> tuple[tuple[str, ...], ...]:
  """The texts of a part of a corpus, those together that are about one thing, such as the captions of an image.

  - "glyphs": the Unicode names of the characters of all scripts, dealt out by `seed`.
  - a text file in UTF-8, whose name ends with ".txt": one text. "train" is the beginning, eight tenths of its
    characters, "validation" and "test" are a tenth each; they are cut between lines, where there is a line's end near.
  - whatever `load_captioned` loads: the captions of its images.

  Args:
    name: of the corpus.
    split: "train", "validation" or "test".
    data_dir, download: as for `load_captioned`.
    seed: of what is dealt out.

  Raises:
    FileNotFoundError, PermissionError: a file cannot be opened.
    ValueError: it is not UTF-8, naming the first byte that is not; it is empty, or a part of it would be; or as
      `load_captioned`.
  """
  checks.choice("split", split, PARTS)
  name = checked_name(name)
  check_how(split, SMALLEST, seed, data_dir)
  checks.flag("download", download)
  if is_text_file(name):
    return ((_part_of_file(name, PARTS.index(split)),),)
  if name == "glyphs":
    names = sorted({text for texts in glyphs("all").captions for text in texts})
    order, ends = np.random.default_rng(seed).permutation(len(names)), _ends(len(names))
    part = PARTS.index(split)
    return tuple((names[i],) for i in sorted(order[ends[part] : ends[part + 1]]))
  if os.path.isfile(name) and not name.endswith((".csv", ".jsonl")):
    raise ValueError(f"expected a text file, whose name ends with .txt, or captions in a .csv or .jsonl, got {name!r}")
  return load_captioned(name, split, size=SMALLEST, data_dir=data_dir, download=download, seed=seed).captions


def token_rows(tokenizer: Tokenizer, texts: Sequence[str], max_length: int, *, start: bool = True) -> np.ndarray:
  """Texts as rows of tokens: int32 `[rows, max_length + 1]`, from -1 on padding.

  A text is its start, its tokens and its end. One that is longer than a row goes on in the next one, which begins with
  the last token of the row before it: nothing is lost, and each token but the start is to be found once.

  Args:
    tokenizer: of the texts.
    texts: which may be empty strings, a start and an end.
    max_length: tokens of a row that are to be found.
    start: whether texts have a start and an end of their own; a text that is a part of another has not.

  Raises:
    TypeError: if texts are one string, or hold something else.
    ValueError: if `max_length` is below 1, or there is no text, or nothing to be found in any.
  """
  return rows_of_texts(tokenizer, texts, max_length, start=start)[0]


def rows_of_texts(
  tokenizer: Tokenizer, texts: Sequence[str], max_length: int, *, start: bool = True
) -> tuple[np.ndarray, np.ndarray]:
  """`token_rows`, and the number of the text that each row is of: int32 `[rows, max_length + 1]` and `[rows]`."""
  checks.count("max_length", max_length, 1, MOST_TOKENS)
  checks.flag("start", start)
  rows, numbers = [], []
  for number, ids in enumerate(tokenizer.ids(texts)):
    tokens = [tokenizer.start, *ids, tokenizer.end] if start else ids
    own = [tokens[first : first + max_length + 1] for first in range(0, len(tokens) - 1, max_length)]
    rows += own
    numbers += [number] * len(own)
  if not rows:
    raise ValueError(f"expected texts of at least 2 tokens, got {len(texts)} without")
  found = np.full((len(rows), max_length + 1), -1, np.int32)
  for row, tokens in zip(found, rows, strict=True):
    row[: len(tokens)] = tokens
  return found, np.array(numbers, np.int32)


def token_batches(rows: np.ndarray, *, batch_size: int, seed: int = 0) -> Batches:
  """Batches of rows of tokens, epoch after epoch, each in a uniformly random order that depends on (seed, epoch) alone.

  Args:
    rows: integers `[n, max_length + 1]`, such as `token_rows` gives.
    batch_size: rows a batch, over all hosts.
    seed: any 64-bit integer.

  Returns:
    `batches(start=0, shard=(0, 1))`, as for `episodes`, of int32 `[batch_size/hosts, max_length + 1]`.

  Raises:
    ValueError: `batch_size` is less than 1, or rows are no such integers.
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
  """Whether a corpus is a text file, by its name."""
  return os.fspath(name).lower().endswith(".txt")


def _part_of_file(path: str, part: int) -> str:
  with open_regular(path) as file:
    content = file.read()
  try:
    text = content.decode().removeprefix("\ufeff")  # a mark of byte order
  except UnicodeDecodeError as error:
    raise ValueError(f"{path!r} is not UTF-8 text: byte {error.start} is {content[error.start]:#04x}") from None
  if not text.strip():
    raise ValueError(f"expected a text in {path!r}, got {len(text)} characters, none of them but white space")
  first, after = (_line(text, end) for end in _ends(len(text))[part : part + 2])
  if not text[first:after].strip():
    raise ValueError(f"expected a text that is long enough to part in three, got {len(text)} characters in {path!r}")
  return text[first:after]


def _line(text: str, place: int) -> int:
  """Where the line that a place is in ends, if that is near, else the place."""
  after = text.find("\n", place) + 1
  return after if place and 0 < after - place < len(text) // 50 else place


def _ends(count: int) -> list[int]:
  return [0, *np.rint(np.cumsum(SHARES) * count).astype(int).tolist()]
