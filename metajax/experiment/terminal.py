"""What others wrote (names of classes and of files, texts) as it can be shown on a terminal and written to a file."""

import unicodedata

JOINERS = "\u200c\u200d"  # they belong to the spelling of words and to emoji
CONTROL = ("Cc", "Cf", "Cs", "Zl", "Zp")  # control characters, turns of the writing's direction, surrogates, new lines


def printable(text: str) -> str:
  """The text with what could command a terminal, or turn or break a line, written out: an escape is `\\x1b`."""
  return "".join(_written_out(c) if unicodedata.category(c) in CONTROL and c not in JOINERS else c for c in text)


def encodable(text: str) -> str:
  """The text as UTF-8 can hold it: a byte of a file's name that is none, such as 0xe9, is written out as `\\xe9`."""
  return "".join(_written_out(c) if unicodedata.category(c) == "Cs" else c for c in text)


def _written_out(character):
  byte = ord(character) - 0xDC00  # Python's stand-in for a byte of a name that is no UTF-8
  return f"\\x{byte:02x}" if 0x80 <= byte <= 0xFF else character.encode("unicode_escape").decode()
