"""What a checkpoint says of itself, as JSON with a check of its own: the note, its arrays' shapes and fingerprints."""

import json
import zlib
from collections.abc import Mapping


def described(note: dict, shapes: Mapping, fingerprints: Mapping) -> dict:
  """The JSON that is written, none of it shared with the caller, whose lists may have grown when it is."""
  about = json.loads(json.dumps({"note": note, "shapes": shapes, "fingerprints": fingerprints}))
  return {"about": about, "crc32": _crc32(about)}


def checked(stored: dict) -> dict:
  """The note, shapes and fingerprints of JSON that was read.

  Raises:
    ValueError: if they are not what was written.
  """
  if stored["crc32"] != _crc32(stored["about"]):
    raise ValueError("its description is not what was saved")
  return stored["about"]


def _crc32(about: dict) -> int:
  return zlib.crc32(json.dumps(about, sort_keys=True).encode())
