"""What comes from outside: paths, and texts in JSON."""

import json
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from metajax.checks.messages import describe


def local_path(name: str, path: Any) -> Path:
  """A path on this machine, with `~` as the home folder.

  Raises:
    ValueError: if it is a URL or a bucket, such as `gs://runs`, or no path.
  """
  if not isinstance(path, str | os.PathLike):
    raise ValueError(f"expected {name} to be a path, got {describe(path)}")
  given = os.fspath(path)
  if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", given):  # one slash: a Path of a URL has lost the other
    advice = "remote paths are not served yet, use a disk or a mounted bucket"
    raise ValueError(f"expected {name} to be a path on this machine, got {given!r}: {advice}")
  return Path(given).expanduser()


def parse_json(where: str, text: str | bytes, kind: type = dict) -> Any:
  """What a text in JSON holds that may be anybody's, however it is nested.

  Args:
    where: it stands, such as a file's name.
    text: a text, or UTF-8.
    kind: of what it is to hold.

  Raises:
    ValueError: if it is no JSON, is nested too deeply, names something twice, or holds another kind.
  """
  try:
    found = json.loads(text, object_pairs_hook=_each_once)
  except RecursionError:
    raise ValueError(f"{where!r} is no JSON file: it is nested too deeply") from None
  except ValueError as error:
    raise ValueError(f"{where!r} is no JSON file: {error}") from None
  if not isinstance(found, kind):
    raise ValueError(f"expected a {kind.__name__} in {where!r}, got {describe(found)}")
  return found


def _each_once(pairs):
  found = dict(pairs)
  if len(found) < len(pairs):
    raise ValueError(f"{repeated(name for name, _ in pairs)!r} is there twice")
  return found


def repeated(names: Iterable[str]) -> str | None:
  """The first of some names that comes a second time, or None."""
  seen = set()
  for name in names:
    if name in seen:
      return name
    seen.add(name)
  return None
