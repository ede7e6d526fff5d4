"""Checks of external input: paths and JSON."""

import json
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from metajax.checks.messages import describe


def local_path(name: str, path: Any) -> Path:
  """A local path, with `~` expanded.

  Raises:
    ValueError: if the value is not a path, or is a URL or a bucket such as `gs://runs`.
  """
  if not isinstance(path, str | os.PathLike):
    raise ValueError(f"expected {name} to be a path, got {describe(path)}")
  given = os.fspath(path)
  if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", given):  # one slash: pathlib drops the other one of a URL
    advice = "copy it to a disk or mount the bucket"
    raise ValueError(f"expected {name} to be a path on this machine, got {given!r}: {advice}")
  return Path(given).expanduser()


def parse_json(where: str, text: str | bytes, kind: type = dict) -> Any:
  """Parses untrusted JSON.

  Args:
    where: source of the text for messages, e.g. a file's name.
    text: a string, or UTF-8 bytes.
    kind: expected type of the value.

  Returns:
    The parsed value.

  Raises:
    ValueError: if the text is not JSON, is nested too deeply, repeats a name, or holds another type.
  """
  try:
    found = json.loads(text, object_pairs_hook=_each_once)
  except RecursionError:
    raise ValueError(f"{where!r} is not a JSON file: it is nested too deeply") from None
  except ValueError as error:
    raise ValueError(f"{where!r} is not a JSON file: {error}") from None
  if not isinstance(found, kind):
    raise ValueError(f"expected a {kind.__name__} in {where!r}, got {describe(found)}")
  return found


def _each_once(pairs):
  found = dict(pairs)
  if len(found) < len(pairs):
    raise ValueError(f"{repeated(name for name, _ in pairs)!r} occurs twice")
  return found


def repeated(names: Iterable[str]) -> str | None:
  """The first name that occurs a second time, or None."""
  seen = set()
  for name in names:
    if name in seen:
      return name
    seen.add(name)
  return None
