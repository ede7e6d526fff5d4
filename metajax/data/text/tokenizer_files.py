"""Loads tokenizers from files: saved ones, or the vocabulary and merges of published models."""

import gzip
import os
import zlib

from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers
from tokenizers import Tokenizer as Encoding

from metajax import checks
from metajax.data.files.opening import check_regular, checked_name, is_file, open_regular
from metajax.data.text.tokenizer import END, START, Tokenizer
from metajax.paths import is_url

END_OF_WORD, CLIP_MERGES = "</w>", 49152 - 256 - 2
CLIP_WORDS = r"""<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"""


def load_tokenizer(path: str | os.PathLike, *, verbatim: bool | None = None) -> Tokenizer:
  """Loads a tokenizer from files.

  - a JSON file (`.json`, which may be in a bucket) written by `Tokenizer.save` or HF `tokenizers` (`tokenizer.json`);
  - a folder of a Hugging Face model, with `tokenizer.json`, or with CLIP's `vocab.json` and `merges.txt`;
  - CLIP's original file of merges, `bpe_simple_vocab_16e6.txt` or `.txt.gz`.

  Args:
    path: file or folder.
    verbatim: as for `Tokenizer`.

  Returns:
    A `Tokenizer`.

  Raises:
    FileNotFoundError: if no such file exists.
    ValueError: if a file is not a byte-pair encoding, or its vocabulary does not end with the start and end of text.
  """
  path = checked_name(path, buckets=isinstance(path, str | os.PathLike) and os.fspath(path).endswith(".json"))
  if verbatim is not None:
    checks.flag("verbatim", verbatim)
  if os.path.isdir(path):
    names = [os.path.join(path, name) for name in ("tokenizer.json", "vocab.json", "merges.txt")]
    if os.path.isfile(names[0]):
      return load_tokenizer(names[0], verbatim=verbatim)
    if not all(map(os.path.isfile, names[1:])):
      raise FileNotFoundError(f"expected tokenizer.json, or vocab.json and merges.txt, in {path!r}, got neither")
    return Tokenizer(_clip_encoding(path, *_read_vocabulary(*names[1:])), verbatim=verbatim)
  if not is_file(path):
    raise FileNotFoundError(f"expected a tokenizer's file or folder, got {path!r}, which does not exist")
  if path.endswith((".txt", ".txt.gz")):
    return Tokenizer(_clip_encoding(path, *_read_merges(path)), verbatim=verbatim)
  check_regular(path)
  try:
    encoding = Encoding.from_buffer(open_regular(path).read()) if is_url(path) else Encoding.from_file(path)
  except Exception as error:  # the library raises plain Exception
    raise ValueError(f"{path!r} is not a tokenizer's JSON file: {error}") from None
  return Tokenizer(encoding, verbatim=verbatim)


def _read_vocabulary(vocabulary, merges):
  with open_regular(vocabulary) as file:
    numbers = checks.parse_json(vocabulary, file.read())
  if not all(isinstance(number, int) for number in numbers.values()):
    raise ValueError(f"{vocabulary!r} is not a vocabulary: expected a number for each token")
  return numbers, _lines(merges)


def _read_merges(path):
  """The numbered tokens (bytes, bytes that end a word, results of merges) and the merges of CLIP's file."""
  merges = _lines(path)[:CLIP_MERGES]
  symbols = list(bytes_to_unicode().values())
  tokens = [*symbols, *(symbol + END_OF_WORD for symbol in symbols), *map("".join, merges), START, END]
  return {token: number for number, token in enumerate(tokens)}, merges


def _lines(path):
  """The two sides of each merge in a file, below its version line."""
  check_regular(path)
  try:
    with gzip.open(path, "rt", encoding="utf-8") if path.endswith(".gz") else open(path, encoding="utf-8") as file:
      lines = [line.split() for line in file if not line.startswith(("#version", '"bpe_simple_vocab'))]
  except (UnicodeDecodeError, gzip.BadGzipFile, EOFError, zlib.error) as error:
    raise ValueError(f"{path!r} is not a file of merges: {error}") from None
  bad = next((line for line in lines if len(line) not in (0, 2)), None)
  if bad is not None or not lines:
    raise ValueError(f"expected two tokens a line in {path!r}, got {' '.join(bad or [])!r}")
  return [tuple(line) for line in lines if line]


def bytes_to_unicode() -> dict[int, str]:
  """The printable character that represents each byte in byte-level vocabularies, in GPT-2's order."""
  printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
  others = [byte for byte in range(256) if byte not in printable]
  return {byte: chr(byte) for byte in printable} | {byte: chr(256 + i) for i, byte in enumerate(others)}


def _clip_encoding(path, numbers, merges):
  """CLIP's encoding: words split by its regular expression, with an end-of-word mark in the tokens."""
  try:
    model = models.BPE(numbers, merges, end_of_word_suffix=END_OF_WORD, continuing_subword_prefix="", unk_token=END)
  except Exception as error:  # the library raises plain Exception
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
