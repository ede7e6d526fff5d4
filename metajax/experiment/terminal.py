"""Escapes for untrusted text (names of classes and files, texts) on a terminal and in files."""

import unicodedata

JOINERS = "\u200c\u200d"  # parts of words and of emoji
CONTROL = ("Cc", "Cf", "Cs", "Zl", "Zp")  # control characters, changes of direction, surrogates, line breaks


def printable(text: str) -> str:
  """Escapes characters that control a terminal, or reverse or break a line: an escape becomes `\\x1b`."""
  return "".join(_written_out(c) if unicodedata.category(c) in CONTROL and c not in JOINERS else c for c in text)


def encodable(text: str) -> str:
  """Escapes bytes of a file name that are not UTF-8: 0xe9 becomes `\\xe9`."""
  return "".join(_written_out(c) if unicodedata.category(c) == "Cs" else c for c in text)


def _written_out(character):
  byte = ord(character) - 0xDC00  # Python represents a byte that is not UTF-8 by a surrogate
  return f"\\x{byte:02x}" if 0x80 <= byte <= 0xFF else character.encode("unicode_escape").decode()
