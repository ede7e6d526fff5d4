"""Text as tokens: byte-pair encodings of HF `tokenizers`, trained here or those that published models came with."""

import json
import os
from collections.abc import Iterable, Sequence

import numpy as np
from tokenizers import Tokenizer as Encoding
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from metajax import checks
from metajax.paths import write_whole

LENGTH = 77  # tokens of a text, its start and end included (arXiv:2103.00020)
MOST_TOKENS = 2**24  # of a row
START, END = "<|startoftext|>", "<|endoftext|>"
PADDING = 0  # comes after the end of a text, where nothing looks


class Tokenizer:
  """Texts to int32 tokens `[n, max_length]`: start of text, tokens, end of text, zeros.

  The end of text is the last token of the vocabulary and the start the one before it; it is there however long the
  text is. Texts are lowercased and runs of white space are one space, as CLIP has it, but for `verbatim`. A lone
  surrogate, which no file can hold, becomes "?".

  Args:
    encoding: a `tokenizers.Tokenizer`.
    verbatim: take texts character by character as they are, for those that are to be written and not only read; by
      default as it was when the encoding was saved, and else not.

  Raises:
    ValueError: if the last two tokens of its vocabulary are not the start and the end of text.
  """

  def __init__(self, encoding: Encoding, *, verbatim: bool | None = None):
    size = encoding.get_vocab_size()
    last = [encoding.id_to_token(size - 2), encoding.id_to_token(size - 1)]
    if last != [START, END]:
      raise ValueError(f"expected a vocabulary that ends with {START!r} and {END!r}, got {last[0]!r} and {last[1]!r}")
    encoding.no_truncation()
    encoding.no_padding()
    encoding.encode_special_tokens = True  # written out in a text they are words like others
    self._encoding, self.vocab_size = encoding, size
    self.verbatim = _is_verbatim(encoding) if verbatim is None else verbatim
    if self.verbatim and encoding.normalizer is None:
      encoding.normalizer = normalizers.Sequence([])  # does nothing, and is saved

  def __call__(self, texts: Sequence[str], max_length: int = LENGTH) -> np.ndarray:
    """Tokens int32 `[n, max_length]` of texts; a longer text loses its last words, never its end of text.

    Raises:
      TypeError: if texts are one string, or hold something else.
      ValueError: if `max_length` is below 2.
    """
    checks.count("max_length", max_length, most=MOST_TOKENS)
    if max_length < 2:
      raise ValueError(f"expected max_length of at least 2, the start and the end of text, got {max_length}")
    tokens = np.full((len(texts), max_length), PADDING, np.int32)
    for row, ids in zip(tokens, self.ids(texts), strict=True):
      ids = [self.start, *ids[: max_length - 2], self.end]
      row[: len(ids)] = ids
    return tokens

  @property
  def start(self) -> int:
    """The token that a text begins with."""
    return self.vocab_size - 2

  @property
  def end(self) -> int:
    """The token that a text ends with: a text tower's output is its."""
    return self.vocab_size - 1

  def ids(self, texts: Sequence[str]) -> list[list[int]]:
    """The tokens of each text as they are, without start and end."""
    if isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
      given = repr(texts) if isinstance(texts, str) else sorted({type(text).__name__ for text in texts} - {"str"})
      raise TypeError(f"expected a sequence of texts, got {given}")
    prepare = whole if self.verbatim else clean
    found = self._encoding.encode_batch([prepare(text) for text in texts], add_special_tokens=False)
    return [one.ids for one in found]

  def text(self, tokens: Iterable[int]) -> str:
    """The text of tokens, without what follows its end; a negative one is padding.

    Raises:
      ValueError: if they are no integers, or one is not in the vocabulary.
    """
    tokens = np.asarray(tokens if hasattr(tokens, "shape") else list(tokens))
    if tokens.size:
      checks.integers("tokens", tokens, "n", high=self.vocab_size)
    tokens = tokens[tokens >= 0].tolist()
    tokens = tokens[: tokens.index(self.end)] if self.end in tokens else tokens
    text = self._encoding.decode([token for token in tokens if token != self.start], skip_special_tokens=False)
    return text if self.verbatim else text.strip()

  def same_as(self, other: "Tokenizer") -> bool:
    """Whether every text has the same tokens by both."""
    return self.verbatim == other.verbatim and self._encoding.to_str() == other._encoding.to_str()

  def save(self, path: str | os.PathLike):
    """Writes it as one JSON file, as `load_tokenizer` and HF `tokenizers` read it.

    Raises:
      ValueError: if the path is not on this machine.
      OSError: if it cannot be written.
    """
    path = checks.local_path("path", path)
    write_whole(path, self._encoding.to_str(pretty=True).encode())


def _is_verbatim(encoding: Encoding) -> bool:
  return json.loads(encoding.to_str())["normalizer"] == {"type": "Sequence", "normalizers": []}


def clean(text: str) -> str:
  """The text lowercased, of single spaces and whole characters."""
  return " ".join(whole(text).lower().split())


def whole(text: str) -> str:
  """The text of whole characters."""
  return text.encode("utf-8", "replace").decode()


def train_tokenizer(texts: Iterable[str], vocab_size: int = 4096, *, verbatim: bool = False) -> Tokenizer:
  """A byte-level byte-pair encoding (arXiv:1508.07909) of at most so many tokens, of a corpus of captions.

  Every text has tokens, whatever it is written in: the 256 bytes are among them. The same corpus gives the same tokens.
  `verbatim` is that of the `Tokenizer`.

  Raises:
    TypeError: if texts are one string, or hold something else.
    ValueError: if `vocab_size` is below 258: the bytes, the start and the end of text.
  """
  prepare = whole if verbatim else clean
  if isinstance(texts, str):
    raise TypeError(f"expected texts, such as [text], got one string of {len(texts)} characters")

  def prepared():
    for text in texts:
      if not isinstance(text, str):
        raise TypeError(f"expected texts, got a {type(text).__name__}")
      yield prepare(text)

  checks.count("vocab_size", vocab_size, most=MOST_TOKENS)
  checks.flag("verbatim", verbatim)
  if vocab_size < 258:
    raise ValueError(f"expected a vocabulary of at least 258 tokens, 256 bytes and 2, got {vocab_size}")
  encoding = Encoding(models.BPE())
  encoding.pre_tokenizer, encoding.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
  alphabet = pre_tokenizers.ByteLevel.alphabet()
  trainer = trainers.BpeTrainer(vocab_size=vocab_size - 2, initial_alphabet=alphabet, show_progress=False)
  encoding.train_from_iterator(prepared(), trainer)
  encoding.add_special_tokens([START, END])
  return Tokenizer(encoding, verbatim=verbatim)
