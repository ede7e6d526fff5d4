"""Sources cached on disk: written atomically, never pickled, and regenerated if they cannot be read."""

import json
import os
import pathlib
import sys
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from metajax import checks
from metajax.data.files.opening import BROKEN_ARCHIVE, check_regular
from metajax.data.source import ImageDataset
from metajax.paths import AnyPath, writing


def cache_folder(folder: AnyPath | None = None) -> pathlib.Path:
  """The cache folder: `folder`, else $METAJAX_CACHE, else "metajax" in the user's cache folder.

  Raises:
    ValueError: if the folder is not a local path.
  """
  if folder is not None:
    return checks.local_path("cache", folder)
  if os.environ.get("METAJAX_CACHE"):
    return checks.local_path("METAJAX_CACHE", os.environ["METAJAX_CACHE"])
  home = pathlib.Path.home()
  if sys.platform == "win32":
    base = os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local"
  else:
    base = os.environ.get("XDG_CACHE_HOME") or (
      home / "Library/Caches" if sys.platform == "darwin" else home / ".cache"
    )
  return pathlib.Path(base) / "metajax"


def _source(stored):
  texts = checks.parse_json("texts", str(stored["texts"]))
  captions = tuple(map(tuple, texts.pop("captions")))
  texts = {name: tuple(values) for name, values in texts.items()}
  return ImageDataset(images=stored["images"], labels=stored["labels"], captions=captions, **texts)


def read(path: AnyPath, parse: Callable[[Any], Any] = _source) -> Any:
  """The cached source (or `parse` of the stored arrays), or None if it is missing or cannot be read."""
  try:
    check_regular(path)
    with np.load(path, allow_pickle=False) as stored:
      return parse(stored)
  except (FileNotFoundError, NotADirectoryError):
    return None
  except (*BROKEN_ARCHIVE, OSError, TypeError, MemoryError, AttributeError) as error:
    warnings.warn(f"the cache {path} cannot be read and is rebuilt: {error}", stacklevel=3)
    return None


def write(path: AnyPath, source: ImageDataset):
  """Stores a source atomically, so that processes may race; warns if it cannot."""
  texts = json.dumps({name: getattr(source, name) for name in ("classes", "superclasses", "captions", "styles")})
  write_arrays(path, {"images": source.images, "labels": source.labels, "texts": np.array(texts)})


def write_arrays(path: AnyPath, arrays: Mapping[str, Any]):
  """Stores `{name: array}` like `write`."""
  try:
    with writing(os.fspath(path)) as file:
      np.savez_compressed(file, **arrays)
  except OSError as error:
    warnings.warn(f"the cache {path} cannot be written: {error}", stacklevel=3)
