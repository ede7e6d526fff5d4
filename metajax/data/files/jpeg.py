"""The header of a JPEG file: its size, its number of colors and its orientation, without decoding."""

import re
from typing import Literal, NamedTuple

FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # markers of a frame header (ITU-T T.81, table B.1)
ALONE = frozenset((0x01, *range(0xD0, 0xD9)))  # markers without a length
ORDERS: dict[bytes, Literal["little", "big"]] = {b"II": "little", b"MM": "big"}  # of the bytes of a number
SCAN, APP1 = 0xDA, 0xE1  # markers of the pixels, and of EXIF and XMP
EXIF, XMP = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0"
ORIENTATION, LONG = 0x0112, 4  # a tag of TIFF, and a type of four bytes; others that hold orientations have two


class JpegHeader(NamedTuple):
  """The header of a JPEG file.

  Attributes:
    height, width: size of the stored image in pixels, before it is turned upright.
    components: 1 for gray, 3 for color, 4 for CMYK.
    orientation: EXIF orientation, or that of XMP where EXIF names none, 1 to 8; 1 is upright.
  """

  height: int
  width: int
  components: int
  orientation: int


def jpeg_header(content: bytes) -> JpegHeader | None:
  """The header of a JPEG file's bytes; None if they are not such a file."""
  if content[:2] != b"\xff\xd8":
    return None
  at, frame, exif, xmp = 2, None, b"", b""
  while at + 10 <= len(content) and content[at] == 0xFF:
    marker = content[at + 1]
    if marker == 0xFF or marker in ALONE:  # a fill byte, or a marker without content
      at += 1 if marker == 0xFF else 2
      continue
    if marker == SCAN:  # orientations may stand behind the frame header, but before the pixels
      break
    end = at + 2 + _integer(content, at + 2)
    if marker in FRAMES and frame is None:
      frame = _integer(content, at + 5), _integer(content, at + 7), content[at + 9]
    if marker == APP1 and content.startswith(EXIF, at + 4):
      exif += content[at + 4 + len(EXIF) : end]  # a long one may come in parts
    if marker == APP1 and content.startswith(XMP, at + 4):
      xmp = content[at + 4 + len(XMP) : end]
    at = end
  if frame is None:
    return None
  orientation = _orientation(exif) or _orientation_of_xmp(xmp)
  return JpegHeader(*frame, orientation if 1 <= orientation <= 8 else 1)


def is_turned(content: bytes) -> bool:
  """Whether a file is a JPEG whose EXIF orientation turns or mirrors it."""
  header = jpeg_header(content)
  return header is not None and header.orientation != 1


def _integer(content, at, order: Literal["little", "big"] = "big"):
  return int.from_bytes(content[at : at + 2], order)


def _orientation(tiff: bytes) -> int:
  """The orientation in an EXIF block, from the first directory of its TIFF structure; 0 if it names none."""
  order = ORDERS.get(tiff[:2])
  if order is None:
    return 0
  at = int.from_bytes(tiff[4:8], order)
  entries = _integer(tiff, at, order)
  for first in range(at + 2, min(at + 2 + 12 * entries, len(tiff) - 11), 12):
    if _integer(tiff, first, order) == ORIENTATION:
      length = 4 if _integer(tiff, first + 2, order) == LONG else 2
      return int.from_bytes(tiff[first + 8 : first + 8 + length], order)
  return 0


def _orientation_of_xmp(packet: bytes) -> int:
  """The orientation in an XMP packet, which counts where EXIF names none; 0 if it names none either."""
  found = re.search(rb'tiff:Orientation(?:="|>)([0-9])', packet)
  return int(found[1]) if found else 0
