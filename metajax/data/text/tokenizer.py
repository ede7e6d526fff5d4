"""Text as tokens: byte-pair encodings of HF `tokenizers`, trained here or taken from published models."""

import json
import os
from collections.abc import Iterable, Sequence

import numpy as np
from tokenizers import Tokenizer as Encoding
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from metajax import checks
from metajax.paths import write_whole

LENGTH = 77  # tokens per text, start and end included (arXiv:2103.00020)
MOST_TOKENS = 2**24  # largest number of tokens in a row
START, END = "<|startoftext|>", "<|endoftext|>"
PADDING = 0  # fills rows after the end of a text, where no model attends


class Tokenizer:
  """Maps texts to int32 tokens `[n, max_length]`: start of text, tokens, end of text, zeros.

  The last token of the vocabulary is the end of text, the one before it the start; every row has both, however long
  the text. Unless `verbatim`, texts are lowercased and runs of white space become one space, as in CLIP. A lone
  surrogate, which no file can hold, becomes "?".

  Args:
    encoding: a `tokenizers.Tokenizer`.
    verbatim: whether texts are kept character by character, as models that generate text need; by default as saved with
      the encoding, and otherwise False.

  Raises:
    ValueError: if the last two tokens of the vocabulary are not the start and the end of text.
  """

  def __init__(self, encoding: Encoding, *, verbatim: bool | None = None):
    size = encoding.get_vocab_size()
    last = [encoding.id_to_token(size - 2), encoding.id_to_token(size - 1)]
    if last != [START, END]:
      raise ValueError(f"expected a vocabulary that ends with {START!r} and {END!r}, got {last[0]!r} and {last[1]!r}")
    encoding.no_truncation()
    encoding.no_padding()
    encoding.encode_special_tokens = True  # special tokens written out in a text are ordinary words
    self._encoding, self.vocab_size = encoding, size
    self.verbatim = _is_verbatim(encoding) if verbatim is None else verbatim
    if self.verbatim and encoding.normalizer is None:
      encoding.normalizer = normalizers.Sequence([])  # a no-op that marks `verbatim` in the saved file

  def __call__(self, texts: Sequence[str], max_length: int = LENGTH) -> np.ndarray:
    """Tokens of texts, int32 `[n, max_length]`; a longer text loses its last words, never its end of text.

    Raises:
      TypeError: if `texts` is a single string, or an element is not a string.
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
    """The start-of-text token."""
    return self.vocab_size - 2

  @property
  def end(self) -> int:
    """The end-of-text token, at which a text encoder's output is read."""
    return self.vocab_size - 1

  def ids(self, texts: Sequence[str]) -> list[list[int]]:
    """The tokens of each text, without start, end and padding."""
    if isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
      given = repr(texts) if isinstance(texts, str) else sorted({type(text).__name__ for text in texts} - {"str"})
      raise TypeError(f"expected a sequence of texts, got {given}")
    prepare = whole if self.verbatim else clean
    found = self._encoding.encode_batch([prepare(text) for text in texts], add_special_tokens=False)
    return [one.ids for one in found]

  def text(self, tokens: Iterable[int]) -> str:
    """Decodes tokens up to the end of text; negative tokens are padding.

    Raises:
      ValueError: if tokens are not integers, or one is not in the vocabulary.
    """
    tokens = np.asarray(tokens if hasattr(tokens, "shape") else list(tokens))
    if tokens.size:
      checks.integers("tokens", tokens, "n", high=self.vocab_size)
    tokens = tokens[tokens >= 0].tolist()
    tokens = tokens[: tokens.index(self.end)] if self.end in tokens else tokens
    text = self._encoding.decode([token for token in tokens if token != self.start], skip_special_tokens=False)
    return text if self.verbatim else text.strip()

  def same_as(self, other: "Tokenizer") -> bool:
    """Whether both tokenizers map every text to the same tokens."""
    return self.verbatim == other.verbatim and self._encoding.to_str() == other._encoding.to_str()

  def save(self, path: str | os.PathLike):
    """Writes the tokenizer to a JSON file that `load_tokenizer` and HF `tokenizers` read.

    Raises:
      ValueError: if the path is not a local path.
      OSError: if the file cannot be written.
    """
    path = checks.local_path("path", path)
    write_whole(path, self._encoding.to_str(pretty=True).encode())


def _is_verbatim(encoding: Encoding) -> bool:
  return json.loads(encoding.to_str())["normalizer"] == {"type": "Sequence", "normalizers": []}


def clean(text: str) -> str:
  """Lowercases a text, collapses white space and replaces lone surrogates."""
  return " ".join(whole(text).lower().split())


def whole(text: str) -> str:
  """Replaces lone surrogates by "?"."""
  return text.encode("utf-8", "replace").decode()


def train_tokenizer(texts: Iterable[str], vocab_size: int = 4096, *, verbatim: bool = False) -> Tokenizer:
  """Trains a byte-level byte-pair encoding (arXiv:1508.07909) on a corpus.

  The vocabulary includes all 256 bytes, so every text in any script can be encoded. Training is deterministic.

  Args:
    texts: texts of the corpus.
    vocab_size: largest number of tokens, at least 258: the bytes, the start and the end of text.
    verbatim: as for `Tokenizer`.

  Returns:
    A `Tokenizer`.

  Raises:
    TypeError: if `texts` is a single string, or an element is not a string.
    ValueError: if `vocab_size` is below 258.

  Example:
    >>> from metajax import data
    >>> tokenizer = data.train_tokenizer(["a cat", "a dog"], vocab_size=260)
    >>> tokenizer(["a cat", "a cat and a dog"], max_length=8).shape
    (2, 8)
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
