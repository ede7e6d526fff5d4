"""The description of a checkpoint, as JSON with a checksum: its note, and its arrays' shapes and fingerprints."""

import json
import zlib
from collections.abc import Mapping


def described(note: dict, shapes: Mapping, fingerprints: Mapping) -> dict:
  """Returns the JSON to write, copied from the caller, whose lists may grow before it is written."""
  about = json.loads(json.dumps({"note": note, "shapes": shapes, "fingerprints": fingerprints}))
  return {"about": about, "crc32": _crc32(about)}


def checked(stored: dict) -> dict:
  """Returns the note, shapes and fingerprints from JSON that was read.

  Raises:
    ValueError: if the checksum does not match.
  """
  if stored["crc32"] != _crc32(stored["about"]):
    raise ValueError("its description does not match its checksum")
  return stored["about"]


def _crc32(about: dict) -> int:
  return zlib.crc32(json.dumps(about, sort_keys=True).encode())
