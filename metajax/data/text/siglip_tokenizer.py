"""SigLIP's texts as tokens: tokenizers of published folders, whose rows are padded to one length."""

import os
import string
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from tokenizers import Tokenizer as Encoding

from metajax import checks
from metajax.data.files.opening import checked_name, open_regular
from metajax.data.text.tokenizer import MOST_TOKENS, clean

FILE, CONFIG = "tokenizer.json", "tokenizer_config.json"
NO_PUNCTUATION = "SiglipTokenizer"  # SigLIP 2, of another class, keeps punctuation
LENGTH = 64  # tokens per text (arXiv:2303.15343)


class SiglipTokenizer(NamedTuple):
  """Maps texts to int32 tokens `[n, max_length]`: tokens, the end of text, padding.

  Texts are lowercased and runs of white space become one space; SigLIP's, but not SigLIP 2's, lose punctuation.

  Attributes:
    encoding: A `tokenizers.Tokenizer`.
    end, padding: The end-of-text token and the padding token; SigLIP's are the same.
    removed: Characters that texts lose.
  """

  encoding: Encoding
  end: int
  padding: int
  removed: str = ""

  @property
  def vocab_size(self) -> int:
    """Number of tokens."""
    return self.encoding.get_vocab_size()

  def __call__(self, texts: Sequence[str], max_length: int = LENGTH) -> np.ndarray:
    """Tokens of texts, int32 `[n, max_length]`; a longer text loses its last words, never its end of text.

    Raises:
      TypeError: if `texts` is a single string, or an element is not a string.
      ValueError: if `max_length` is below 1.
    """
    checks.count("max_length", max_length, most=MOST_TOKENS)
    if isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
      given = repr(texts) if isinstance(texts, str) else sorted({type(text).__name__ for text in texts} - {"str"})
      raise TypeError(f"expected a sequence of texts, got {given}")
    gone = str.maketrans("", "", self.removed)
    prepared = [clean(text.translate(gone)) for text in texts]
    tokens = np.full((len(texts), max_length), self.padding, np.int32)
    for row, one in zip(tokens, self.encoding.encode_batch(prepared, add_special_tokens=False), strict=True):
      ids = [*one.ids[: max_length - 1], self.end]
      row[: len(ids)] = ids
    return tokens


def load_siglip_tokenizer(path: str | os.PathLike) -> SiglipTokenizer:
  """Loads the tokenizer of a SigLIP (arXiv:2303.15343) or SigLIP 2 (arXiv:2502.14786) from a folder of transformers.

  Args:
    path: Folder with `tokenizer.json` and `tokenizer_config.json`.

  Returns:
    A `SiglipTokenizer`.

  Raises:
    FileNotFoundError: if a file does not exist.
    ValueError: if a file is damaged, or names no end of text or padding in the vocabulary.
  """
  folder = checked_name(path)
  names = [os.path.join(folder, name) for name in (FILE, CONFIG)]
  if missing := [name for name in names if not os.path.isfile(name)]:
    raise FileNotFoundError(f"expected {FILE} and {CONFIG} in {folder!r}, got no {os.path.basename(missing[0])}")
  contents = []
  for name in names:
    with open_regular(name) as file:
      contents.append(file.read())
  try:
    encoding = Encoding.from_buffer(contents[0])
  except Exception as error:  # the library raises plain Exception
    raise ValueError(f"{names[0]!r} is not a tokenizer's JSON file: {error}") from None
  encoding.no_truncation()
  encoding.no_padding()
  encoding.encode_special_tokens = True  # special tokens written out in a text are ordinary words
  config = checks.parse_json(names[1], contents[1])
  end, padding = (_special(encoding, config, name, names[1]) for name in ("eos_token", "pad_token"))
  removes = str(config.get("tokenizer_class")).removesuffix("Fast") == NO_PUNCTUATION
  return SiglipTokenizer(encoding, end, padding, string.punctuation if removes else "")


def _special(encoding: Encoding, config: dict, name: str, where: str) -> int:
  """Returns the number of a special token that a configuration names."""
  said = config.get(name)
  token = said.get("content") if isinstance(said, dict) else said
  number = encoding.token_to_id(token) if isinstance(token, str) else None
  if number is None:
    raise ValueError(f"expected {name} of the vocabulary in {where!r}, got {token!r}")
  return number
