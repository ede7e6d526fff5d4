"""Reads and writes files, on disks and in buckets: the only place that knows the difference.

A place is a `pathlib.Path`, or etils' path of a URL such as `gs://bucket/run`, which has the same methods. A bucket is
a store of objects: it has no append, no rename and no folders, but a put is atomic. What is appended there becomes
numbered parts, and what would be renamed is put.
"""

from metajax.paths.files import SCRATCH, alone, exists, move, naming, read_bytes, read_json, store, write_whole, writing
from metajax.paths.folders import fetch_folder, files_in, make_folder, put_folder, remove_tree
from metajax.paths.parts import appending, base, begin, merge, read
from metajax.paths.places import AnyPath, checked_url, is_served, is_url, place, remote

__all__ = [
  "SCRATCH",
  "AnyPath",
  "alone",
  "appending",
  "base",
  "begin",
  "checked_url",
  "exists",
  "fetch_folder",
  "files_in",
  "is_served",
  "is_url",
  "make_folder",
  "merge",
  "move",
  "naming",
  "place",
  "put_folder",
  "read",
  "read_bytes",
  "read_json",
  "remote",
  "remove_tree",
  "store",
  "write_whole",
  "writing",
]
