"""A store of objects for tests, `teststore://bucket/name`: files below $TESTSTORE, that know no append and no rename.

A put takes $TESTSTORE_SECONDS.

It has what buckets have: an object is put whole when its file is closed, a folder is the beginning of names, and there
is no lock. `register` makes it known to a process.
"""

import contextlib
import fnmatch
import io
import os
import secrets
import time
from pathlib import Path

from etils import epath
from etils.epath import backend, gpath, stat_utils

SCHEME = "teststore"


class _Object(io.BytesIO):
  """An object that is being written: it is there, whole, when it is closed without an error."""

  def __init__(self, path):
    super().__init__()
    self._path = path

  def __exit__(self, kind, error, trace):
    if kind is None:
      self._path.parent.mkdir(parents=True, exist_ok=True)
      scratch = self._path.parent / f"~{secrets.token_hex(8)}"
      scratch.write_bytes(self.getvalue())
      if seconds := os.environ.get("TESTSTORE_SECONDS"):
        time.sleep(float(seconds))
      os.replace(scratch, self._path)
    self.close()


class ObjectStore(backend.Backend):
  """The store; what a bucket does not have raises."""

  def open(self, path, mode):
    if mode not in ("rb", "r", "wb"):
      raise NotImplementedError(f"a store of objects has no mode {mode!r}: {path}")
    if mode == "wb":
      return _Object(_on_disk(path))
    return open(_on_disk(path), mode)

  def exists(self, path):
    return _on_disk(path).is_file() or self.isdir(path)

  def isdir(self, path):  # one in which nothing is left is none
    return any(name for _, _, names in os.walk(_on_disk(path)) for name in names)

  def listdir(self, path):
    there = _on_disk(path)
    return [one.name for one in there.iterdir() if not one.name.startswith("~") and self.exists(f"{path}/{one.name}")]

  def glob(self, path):
    found = [""]
    for part in path.split("/")[2:]:
      if "*" in part:
        below = [f"{one}/{name}" for one in found if self.isdir(one) for name in self.listdir(one)]
        found = [one for one in below if fnmatch.fnmatchcase(one.rpartition("/")[2], part)]
      else:
        found = [f"{one}/{part}" for one in found]
    return [f"{SCHEME}:/{one}" for one in found if self.exists(one)]

  def walk(self, top, *, top_down=True, on_error=None):
    root = _on_disk(top)
    for folder, folders, names in os.walk(root):
      below = Path(folder).relative_to(root).as_posix()
      yield f"{top}/{below}".removesuffix("/."), folders, [name for name in names if not name.startswith("~")]

  def makedirs(self, path, *, exist_ok=False, mode=None):
    raise NotImplementedError(f"a store of objects has no folders: {path}")

  mkdir = makedirs

  def rmtree(self, path):
    raise NotImplementedError(f"a store of objects deletes them one by one: {path}")

  def remove(self, path):
    _on_disk(path).unlink()

  def rename(self, path, dst):
    raise NotImplementedError(f"a store of objects has no rename: {path}")

  def replace(self, path, dst):
    raise NotImplementedError(f"a store of objects has no rename: {path}")

  def copy(self, path, dst, overwrite):
    raise NotImplementedError(f"not needed: {path}")

  def stat(self, path):
    found = _on_disk(path).stat()
    return stat_utils.StatResult(is_directory=self.isdir(path), length=found.st_size, mtime=int(found.st_mtime))


class Memory(type(backend.tf_backend)):
  """TensorFlow's file systems, with the folders above a file, without which the one in memory lists nothing."""

  def open(self, path, mode):
    if mode == "wb":
      self.gfile.makedirs(os.path.dirname(path))
    return super().open(path, mode)


class StorePath(gpath.PosixGPath):
  """The path of an object."""

  scheme = SCHEME

  def __new__(cls, *parts):
    return super().__new__(cls, *(_rooted(cls.scheme, part) for part in parts))

  if not hasattr(gpath.PosixGPath, "_from_parsed_parts"):  # Python 3.12 and later

    def __init__(self, *parts):
      super().__init__(*(_rooted(self.scheme, part) for part in parts))

  @property
  def _uri_scheme(self):
    return self.scheme if self.parts[:2] == ("/", self.scheme) else None

  @property
  def _backend(self):
    return STORE


class MemoryPath(StorePath):
  """The path of a file in TensorFlow's file system in memory."""

  scheme = "ram"

  @property
  def _backend(self):
    return MEMORY


STORE, MEMORY = ObjectStore(), Memory()


def register():
  """Makes etils' epath open `teststore://`."""
  epath.register_path_cls(f"{SCHEME}://")(StorePath)


def register_memory():
  """Makes etils' epath open `ram://`."""
  epath.register_path_cls("ram://")(MemoryPath)


def _rooted(scheme, part):
  return part.replace(f"{scheme}://", f"/{scheme}/", 1) if isinstance(part, str) else part


def _on_disk(path):
  name = os.fspath(path).removeprefix(f"{SCHEME}://").strip("/")
  if ".." in name.split("/"):
    raise ValueError(f"expected a name in the store, got {path!r}")
  return Path(os.environ["TESTSTORE"]) / name


@contextlib.contextmanager
def in_folder(folder):
  """The store in a folder, for this process and those that it starts."""
  before = os.environ.get("TESTSTORE")
  os.environ["TESTSTORE"] = str(folder)
  register()
  try:
    yield f"{SCHEME}://bucket"
  finally:
    if before is None:
      del os.environ["TESTSTORE"]
    else:
      os.environ["TESTSTORE"] = before
