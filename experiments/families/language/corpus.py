"""The texts of a language model: a tokenizer trained on them, rows of tokens, and independent groups of rows."""

from typing import NamedTuple

import numpy as np

from experiments.families.data import ImageData
from experiments.families.image_flags import refuse_distribution
from experiments.families.language.config import Text
from metajax.data import Tokenizer, load_texts, train_tokenizer
from metajax.data.text.corpus import is_text_file, rows_of_texts
from metajax.experiment.terminal import printable

PARTS = ("train", "validation", "test")
TOGETHER = 8  # rows per group of one text


class Corpus(NamedTuple):
  """Texts and their tokens.

  Attributes:
    tokenizer: Tokenizer trained on the training texts.
    texts: `{part: texts}`.
    rows: `{part: tokens [n, max_length]}`, padded with -1.
    about: Index of the independent group of each test row, `[n]`; intervals are over groups.
  """

  tokenizer: Tokenizer
  texts: dict[str, list[str]]
  rows: dict[str, np.ndarray]
  about: np.ndarray


def load_corpus(data: ImageData, flags: Text) -> Corpus:
  """Loads the corpus, and prints its size.

  Raises:
    ValueError, OSError: as `metajax.data.load_texts`, or if the test part is too small.
  """
  refuse_distribution(data, "texts")
  vocab_size, max_length, _ = flags
  groups = {part: load_texts(data.data, part, download=data.download) for part in PARTS}
  texts = {part: [text for group in some for text in group] for part, some in groups.items()}
  in_parts = is_text_file(data.data)  # rows of one long text have no start and end tokens
  tokenizer = train_tokenizer(texts["train"], vocab_size, verbatim=in_parts)
  found = {part: rows_of_texts(tokenizer, some, max_length, start=not in_parts) for part, some in texts.items()}
  rows = {part: some for part, (some, _) in found.items()}
  about = _independent(groups["test"], found["test"][1])
  if len(np.unique(about)) < 2:
    given = f"{len(rows['test'])} of {max_length} tokens"
    raise ValueError(f"expected a corpus with at least 2 test rows, got {given}")
  _describe(data.data, texts, rows, tokenizer)
  return Corpus(tokenizer, texts, rows, about)


def counts(rows: np.ndarray) -> np.ndarray:
  """Number of predicted tokens in each row, `[n]`."""
  return (rows[:, 1:] >= 0).sum(-1)


def _independent(groups, of_text: np.ndarray) -> np.ndarray:
  """Index of the independent group of each row: its image, or a few adjacent rows of one long text."""
  if len(groups) == 1:
    return np.arange(len(of_text)) // max(1, min(TOGETHER, len(of_text) // 2))
  return np.repeat(np.arange(len(groups)), [len(group) for group in groups])[of_text]


def _describe(name: str, texts, rows, tokenizer):
  longer = sum(len(some) for some in rows.values()) - sum(len(some) for some in texts.values())
  train, validation, test = (f"{counts(rows[part]).sum():,}" for part in PARTS)
  print(
    f"{printable(name)}: vocabulary of {tokenizer.vocab_size:,} tokens; {train} tokens for training, {validation} for "
    f"validation, {test} for test" + f"; texts longer than a row continue in {longer:,} more rows" * (longer > 0)
  )
