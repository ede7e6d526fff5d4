"""Places: paths on this machine, and URLs of buckets."""

import os
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any, cast

from etils import epy

from metajax import checks

with epy.lazy_imports():  # takes a tenth of a second, and a run on a disk does not need it
  from etils import epath

AnyPath = str | os.PathLike  # path of a file or folder
SCHEMES = ("gs", "s3", "az", "hf")  # those of epath itself, of which some need another package
URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")  # one slash: pathlib drops the other one of a URL


def place(name: str, path: Any) -> Path:
  """A path on this machine, with `~` expanded, or in a bucket.

  Args:
    name: name of the argument, for the message.
    path: string or path; a URL may have lost a slash in a `Path`.

  Returns:
    A `pathlib.Path`, or etils' path of a URL, with the same methods.

  Raises:
    ValueError: if it is not a path, or a URL of a scheme that is not opened here; the message has those that are.
  """
  if not isinstance(path, str | os.PathLike):
    raise ValueError(f"expected {name} to be a path, got {checks.describe(path)}")
  given = os.fspath(path)
  if not is_url(given):
    return Path(given).expanduser()
  return cast(Path, epath.Path(checked_url(name, given)))


def is_url(path: AnyPath) -> bool:
  """Whether a path is a URL, possibly with one slash."""
  return URL.match(os.fspath(path)) is not None


def checked_url(name: str, given: str, schemes: Collection[str] | None = None) -> str:
  """A URL with both slashes, of a scheme that is opened here.

  Args:
    name: name of the argument, for the message.
    given: a URL, possibly with one slash.
    schemes: those that are opened; by default those of etils' epath.

  Raises:
    ValueError: as `place`.
  """
  scheme, _, rest = given.partition(":/")
  if not (is_served(scheme) if schemes is None else scheme in schemes):
    served = filter(is_served, SCHEMES) if schemes is None else filter(None, sorted(schemes))
    known = ", ".join(f"{one}://" for one in served) or "no scheme"
    advice = "copy it to a disk, mount the bucket, or install what opens it"
    raise ValueError(f"expected {name} to be a path on this machine, or of {known}, got {given!r}: {advice}")
  bucket = rest.removeprefix("/")
  if not bucket or (schemes is None and bucket.startswith("/")) or "\0" in bucket:
    raise ValueError(f"expected {name} to name a bucket, as in {scheme}://bucket/folder, got {given!r}")
  return f"{scheme}://{bucket}"


def is_served(scheme: str) -> bool:
  """Whether etils' epath opens URLs of a scheme here, found out without the network."""
  try:
    epath.Path(f"{scheme}://").exists()
  except (KeyError, ImportError):  # no such scheme, or its package is not installed
    return False
  except Exception as error:  # TensorFlow's; the others complain that no bucket is named
    return type(error).__name__ != "UnimplementedError"
  return True


def remote(path: AnyPath) -> bool:
  """Whether a place is in a bucket."""
  return not isinstance(path, str | Path)
