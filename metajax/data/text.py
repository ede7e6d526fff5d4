"""Text as tokens: byte-pair encodings of HF `tokenizers`, trained here or those that published models came with."""

import gzip
import json
import os
import zlib
from collections.abc import Iterable, Sequence

import numpy as np
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers, trainers
from tokenizers import Tokenizer as Encoding

from metajax import checks
from metajax.data.files import check_regular, checked_name, open_regular
from metajax.paths import write_whole

LENGTH = 77  # tokens of a text, its start and end included (arXiv:2103.00020)
MOST_TOKENS = 2**24  # of a row
START, END = "<|startoftext|>", "<|endoftext|>"
END_OF_WORD, CLIP_MERGES = "</w>", 49152 - 256 - 2
PADDING = 0  # comes after the end of a text, where nothing looks
CLIP_WORDS = r"""<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"""


class Tokenizer:
  """Texts to int32 tokens `[n, length]`: start of text, tokens, end of text, zeros.

  The end of text is the last token of the vocabulary and the start the one before it; it is there however long the
  text is. Texts are lowercased and runs of white space are one space, as CLIP has it, but for `verbatim`. A lone
  surrogate, which no file can hold, becomes "?".

  Args:
    encoding: a `tokenizers.Tokenizer`.
    verbatim: take texts letter by letter as they are, for those that are to be written and not only read; by default
      as it was when the encoding was saved, and else not.

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
    self._encoding, self.vocabulary = encoding, size
    self.verbatim = _is_verbatim(encoding) if verbatim is None else verbatim
    if self.verbatim and encoding.normalizer is None:
      encoding.normalizer = normalizers.Sequence([])  # does nothing, and is saved

  def __call__(self, texts: Sequence[str], length: int = LENGTH) -> np.ndarray:
    """Tokens int32 `[n, length]` of texts; a longer text loses its last words, never its end of text.

    Raises:
      TypeError: if texts are one string, or hold something else.
      ValueError: if `length` is below 2.
    """
    checks.count("length", length, most=MOST_TOKENS)
    if length < 2:
      raise ValueError(f"expected a length of at least 2, the start and the end of text, got {length}")
    tokens = np.full((len(texts), length), PADDING, np.int32)
    for row, ids in zip(tokens, self.ids(texts), strict=True):
      ids = [self.start, *ids[: length - 2], self.end]
      row[: len(ids)] = ids
    return tokens

  @property
  def start(self) -> int:
    """The token that a text begins with."""
    return self.vocabulary - 2

  @property
  def end(self) -> int:
    """The token that a text ends with: a text tower's output is its."""
    return self.vocabulary - 1

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
      checks.integers("tokens", tokens, "n", high=self.vocabulary)
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


def train_tokenizer(texts: Iterable[str], vocabulary: int = 4096, *, verbatim: bool = False) -> Tokenizer:
  """A byte-level byte-pair encoding (arXiv:1508.07909) of at most so many tokens, of a corpus of captions.

  Every text has tokens, whatever it is written in: the 256 bytes are among them. The same corpus gives the same tokens.
  `verbatim` is that of the `Tokenizer`.

  Raises:
    TypeError: if texts are one string, or hold something else.
    ValueError: if `vocabulary` is below 258: the bytes, the start and the end of text.
  """
  prepare = whole if verbatim else clean
  if isinstance(texts, str):
    raise TypeError(f"expected texts, such as [text], got one string of {len(texts)} characters")

  def prepared():
    for text in texts:
      if not isinstance(text, str):
        raise TypeError(f"expected texts, got a {type(text).__name__}")
      yield prepare(text)

  checks.count("vocabulary", vocabulary, most=MOST_TOKENS)
  checks.flag("verbatim", verbatim)
  if vocabulary < 258:
    raise ValueError(f"expected a vocabulary of at least 258 tokens, 256 bytes and 2, got {vocabulary}")
  encoding = Encoding(models.BPE())
  encoding.pre_tokenizer, encoding.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
  alphabet = pre_tokenizers.ByteLevel.alphabet()
  trainer = trainers.BpeTrainer(vocab_size=vocabulary - 2, initial_alphabet=alphabet, show_progress=False)
  encoding.train_from_iterator(prepared(), trainer)
  encoding.add_special_tokens([START, END])
  return Tokenizer(encoding, verbatim=verbatim)


def load_tokenizer(path: str | os.PathLike, *, verbatim: bool | None = None) -> Tokenizer:
  """A tokenizer of files that a user has, `verbatim` as for a `Tokenizer`: one of these.

  - a JSON file that `Tokenizer.save` or HF `tokenizers` wrote (`tokenizer.json`);
  - a folder of a Hugging Face model, with `tokenizer.json`, or `vocab.json` and `merges.txt`, CLIP's vocabulary;
  - CLIP's own file of merges, `bpe_simple_vocab_16e6.txt` or `.txt.gz`.

  Raises:
    FileNotFoundError: if there is none of them.
    ValueError: if a file is no byte-pair encoding, or ends with other tokens than a `Tokenizer` needs.
  """
  path = checked_name(path)
  if verbatim is not None:
    checks.flag("verbatim", verbatim)
  if os.path.isdir(path):
    names = [os.path.join(path, name) for name in ("tokenizer.json", "vocab.json", "merges.txt")]
    if os.path.isfile(names[0]):
      return load_tokenizer(names[0], verbatim=verbatim)
    if not all(map(os.path.isfile, names[1:])):
      raise FileNotFoundError(f"expected tokenizer.json, or vocab.json and merges.txt, in {path!r}, got neither")
    return Tokenizer(_clip_encoding(path, *_read_vocabulary(*names[1:])), verbatim=verbatim)
  if not os.path.isfile(path):
    raise FileNotFoundError(f"there is no tokenizer {path!r}")
  if path.endswith((".txt", ".txt.gz")):
    return Tokenizer(_clip_encoding(path, *_read_merges(path)), verbatim=verbatim)
  check_regular(path)
  try:
    encoding = Encoding.from_file(path)
  except Exception as error:  # the library's own class of errors is Exception
    raise ValueError(f"{path!r} is no tokenizer's JSON file: {error}") from None
  return Tokenizer(encoding, verbatim=verbatim)


def _read_vocabulary(vocabulary, merges):
  with open_regular(vocabulary) as file:
    numbers = checks.parse_json(vocabulary, file.read())
  if not all(isinstance(number, int) for number in numbers.values()):
    raise ValueError(f"{vocabulary!r} is no vocabulary: expected a number of each token")
  return numbers, _lines(merges)


def _read_merges(path):
  """The tokens are the bytes, the bytes that end a word, and what each merge makes."""
  merges = _lines(path)[:CLIP_MERGES]
  symbols = list(bytes_to_unicode().values())
  tokens = [*symbols, *(symbol + END_OF_WORD for symbol in symbols), *map("".join, merges), START, END]
  return {token: number for number, token in enumerate(tokens)}, merges


def _lines(path):
  """The two sides of each merge in a file, under a line with its version."""
  check_regular(path)
  try:
    with gzip.open(path, "rt", encoding="utf-8") if path.endswith(".gz") else open(path, encoding="utf-8") as file:
      lines = [line.split() for line in file if not line.startswith(("#version", '"bpe_simple_vocab'))]
  except (UnicodeDecodeError, gzip.BadGzipFile, EOFError, zlib.error) as error:
    raise ValueError(f"{path!r} is no file of merges: {error}") from None
  bad = next((line for line in lines if len(line) not in (0, 2)), None)
  if bad is not None or not lines:
    raise ValueError(f"expected two tokens a line in {path!r}, got {' '.join(bad or [])!r}")
  return [tuple(line) for line in lines if line]


def bytes_to_unicode() -> dict[int, str]:
  """The printable character that stands for each byte in byte-level vocabularies (GPT-2's), in their order."""
  printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
  others = [byte for byte in range(256) if byte not in printable]
  return {byte: chr(byte) for byte in printable} | {byte: chr(256 + i) for i, byte in enumerate(others)}


def _clip_encoding(path, numbers, merges):
  """CLIP's own: words by its expression, and an end-of-word mark in the tokens."""
  try:
    model = models.BPE(numbers, merges, end_of_word_suffix=END_OF_WORD, continuing_subword_prefix="", unk_token=END)
  except Exception as error:  # the library's own class of errors is Exception
    raise ValueError(f"{path!r} holds no byte-pair encoding: {error}") from None
  encoding = Encoding(model)
  encoding.normalizer = normalizers.NFC()
  words = pre_tokenizers.Split(Regex(CLIP_WORDS), behavior="removed", invert=True)
  encoding.pre_tokenizer = pre_tokenizers.Sequence(
    [words, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
  )
  encoding.decoder = decoders.Sequence(
    [decoders.Replace(END_OF_WORD, bytes_to_unicode()[ord(" ")]), decoders.ByteLevel()]
  )
  encoding.add_special_tokens([START, END])
  return encoding
