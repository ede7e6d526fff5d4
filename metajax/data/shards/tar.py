"""The members of a tar file, found from its headers alone: nothing is extracted, and no link is followed."""

import bisect
import os
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

BLOCK = 512
LEAST, MOST = 2**12, 2**20  # bytes that are read at once: few where members are long, and many where they are short
REGULAR = b"0\x007"
OF_NO_LENGTH = b"123456"  # links, devices and folders: no data follow, whatever length is given
SPARSE = b"S"[0]  # of GNU, which stores no plain content
EXTENSIONS = b"xgLK"  # headers that describe the next member, or all
VERIFIED = 4096  # headers whose checksums are verified at once
LONGEST_NAME = 2**20  # bytes of a header that describes the next member
EMPTY = bytes(BLOCK)


class Part(NamedTuple):
  """Regular files in a part of a tar file; plain lists, which the garbage collector does not look through.

  Attributes:
    names: path of each file.
    starts: first byte of each one's content.
    lengths: number of its bytes; they may end beyond the end of a tar file that was cut off.
    damage: why the rest of the tar file cannot be read, or None.
  """

  names: list[bytes]
  starts: list[int]
  lengths: list[int]
  damage: str | None


def parts(file: int, size: int) -> Iterator[Part]:
  """Yields the regular members of an open tar file part by part, with names of any length (ustar, GNU and pax).

  Args:
    file: descriptor of the file.
    size: its length in bytes.
  """
  window, first, reach, at, damage = b"", 0, LEAST, 0, None
  headers, places, numbers, found = [], [], [], Part([], [], [], None)
  name = length = None  # of the next member, from an extension
  while at < size:
    place = at - first
    if not 0 <= place <= len(window) - BLOCK:  # headers that lie close together are read at once
      reach = min(2 * reach, MOST) if 0 <= place <= 2 * len(window) else LEAST
      window, first, place = os.pread(file, reach, at), at, 0
    header = window[place : place + BLOCK]
    if header == EMPTY:
      break
    own = _number(header[124:136]) if len(header) == BLOCK else None
    if own is None or header[156] == SPARSE:
      damage = f"{'cut off' if len(header) < BLOCK else 'no tar header'} at byte {at:,}"
      break
    headers.append(header)
    places.append(at)
    at += BLOCK
    kind = header[156]
    if kind in EXTENSIONS:
      name, length = _extension(file, kind, at, own, name, length)
    else:
      own = own if length is None else length
      if kind in REGULAR:
        numbers.append(len(headers))
        found.names.append(_name(header) if name is None else name)
        found.starts.append(at)
        found.lengths.append(own)
      own, name, length = 0 if kind in OF_NO_LENGTH else own, None, None
    at -= -own // BLOCK * BLOCK
    if len(headers) == VERIFIED:
      yield (part := _verified(headers, places, numbers, found))
      if part.damage:
        return
      headers, places, numbers, found = [], [], [], Part([], [], [], None)
  damage = damage or (f"cut off at byte {size:,}" if at > size else None)
  yield _verified(headers, places, numbers, found._replace(damage=damage))


def _extension(file, kind, start, length, name, long):
  """The name and the length of the next member, or None for each that is not given."""
  content = os.pread(file, min(length, LONGEST_NAME), start) if kind in b"Lx" else b""
  if kind == b"L"[0]:
    return content.rstrip(b"\0"), long
  # Often it holds a time alone.
  return _pax(content) if b" path=" in content or b" size=" in content else (name, long)


def shown(name: bytes) -> str:
  """A member's name for messages, on one line and without control characters."""
  text = name.decode("utf-8", "backslashreplace")
  return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def _number(field):
  """An octal or, if its first bit is set, binary number; None if it is neither."""
  if field[0] & 0x80:
    return int.from_bytes(field[1:], "big") if field[0] == 0x80 else None
  try:
    number = int(field.strip(b"\0 ") or b"0", 8)
  except ValueError:
    return None
  return number if number >= 0 else None


def _name(header):
  name = header[: header.index(b"\0", 0, BLOCK) if header[99] == 0 else 100]
  if header[345] and header[257:263] == b"ustar\0":  # GNU stores times there
    return header[345:500].split(b"\0", 1)[0] + b"/" + name
  return name


def _pax(content):
  """The path and the size in an extended header, lines of "LENGTH KEY=VALUE", or None for each that is not there."""
  name = length = None
  while content:
    digits = content.partition(b" ")[0]
    if not digits.isdigit() or len(digits) > 7 or not 0 < int(digits) <= len(content):
      break
    key, _, value = content[len(digits) + 1 : int(digits) - 1].partition(b"=")
    if key == b"path":
      name = value
    if key == b"size" and value.isdigit() and len(value) < 19:
      length = int(value)
    content = content[int(digits) :]
  return name, length


def _verified(headers, places, numbers, found):
  """The members found before the first header whose checksum is wrong."""
  table = np.frombuffer(b"".join(headers), np.uint8).reshape(-1, BLOCK)
  stored, digits = np.zeros(len(table), np.int64), table[:, 148:156].astype(np.int64)
  for digit in digits.T:
    stored = np.where((digit >= 48) & (digit < 56), 8 * stored + digit - 48, stored)
  rest = 8 * 32 - digits.sum(1)  # the checksum itself counts as spaces
  wrong = stored != table.sum(1, dtype=np.uint32) + rest
  # Some old programs add up signed bytes.
  wrong[wrong] = stored[wrong] != table[wrong].view(np.int8).sum(1, dtype=np.int64) + rest[wrong]
  if not wrong.any():
    return found
  first = int(np.argmax(wrong))
  good = bisect.bisect_right(numbers, first)
  return Part(*(values[:good] for values in found[:3]), f"no tar header at byte {places[first]:,}")
