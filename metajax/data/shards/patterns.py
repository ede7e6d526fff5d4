"""The shards that a pattern names: braces and wildcards are expanded here, by no shell."""

import contextlib
import glob
import itertools
import os
import re

from metajax.checks import repeated
from metajax.data.files.image_file import is_image_name
from metajax.data.files.table import SPLITS

# The kind of a shard by its name, which may end in "-00000-of-00010" or, of a pattern, in wildcards.
KIND = re.compile(r"\.(tar|tfrecord|array_record|parquet)s?(?:-[\w*?.,{}\[\]-]*|\*)?$")
KINDS = ("tar", "tfrecord", "array_record", "parquet")
COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")
MOST_SHARDS = 2**20
BRACES = re.compile(r"\{([^{}]*)\}")
RANGE = re.compile(r"(\d+)\.\.(\d+)")


def is_shards(name: str) -> bool:
  """Whether a data set's name is a pattern of shards, or a folder that holds shards and neither images nor folders."""
  if KIND.search(name) or name.endswith(COMPRESSED):
    return True
  with contextlib.suppress(OSError):  # a folder that cannot be read is one of images, which says so
    return os.path.isdir(name) and bool(_in_folder(name))
  return False


def kind_of(paths: list[str]) -> str:
  """The kind of some shards, one of KINDS.

  Raises:
    ValueError: if they are of several kinds, or of none.
  """
  first, *others = {match[1] if match else "" for match in map(KIND.search, paths)}
  if others or not first:
    raise ValueError(f"expected shards of one kind, {', '.join(KINDS)}, got such as {paths[0]!r} and {paths[-1]!r}")
  return first


def expand(name: str) -> list[str]:
  """The sorted paths of the shards that a pattern names.

  `{00000..01023}` stands for each number, padded with zeros like its ends, and `{a,b}` for each text; `*`, `?` and
  `[...]` are wildcards. A folder stands for the shards in it, or in its folders "train", "validation" ("val") and
  "test".

  Raises:
    FileNotFoundError: if a shard is missing, or none matches.
    ValueError: if braces cannot be expanded, shards are compressed, or one is named twice.
  """
  if os.path.isdir(name):
    return _in_folder(name)
  found = []
  for path in [name] if os.path.exists(name) else expand_braces(name):
    if glob.has_magic(path) and not os.path.exists(path):
      found += sorted(glob.glob(path))
    else:
      found.append(path)
  if not found:
    raise FileNotFoundError(f"no shard matches {name!r}")
  if compressed := next((path for path in found if path.endswith(COMPRESSED)), None):
    raise ValueError(f"expected uncompressed tar files, which can be read at any place, got {compressed!r}")
  if twice := repeated(found):
    raise ValueError(f"expected every shard once, got {twice!r} twice in {name!r}")
  if missing := [path for path in found if not os.path.exists(path)]:
    raise FileNotFoundError(f"{len(missing)} of {len(found)} shards of {name!r} are missing, such as {missing[0]!r}")
  return found


def expand_braces(name: str) -> list[str]:
  """The texts that a pattern with braces stands for, in order.

  Raises:
    ValueError: if a brace is unbalanced, nested, or neither a range nor a list, or there are too many texts.

  Example:
    >>> from metajax.data.shards.patterns import expand_braces
    >>> expand_braces("{train,val}-{08..10}.tar")[1:4]
    ['train-09.tar', 'train-10.tar', 'val-08.tar']
  """
  parts = BRACES.split(name)
  if any("{" in part or "}" in part for part in parts[::2]):
    raise ValueError(f"expected braces like {{00..10}} or {{a,b}}, closed and not nested, got {name!r}")
  choices = [[part] if i % 2 == 0 else _choices(part, name) for i, part in enumerate(parts)]
  number = 1
  for texts in choices:
    number *= len(texts)
  if number > MOST_SHARDS:
    raise ValueError(f"expected at most {MOST_SHARDS:,} shards, got {number:,} of {name!r}")
  return ["".join(texts) for texts in itertools.product(*choices)]


def own_splits(paths: list[str]) -> list[str] | None:
  """The official split of each shard by a word of its path, such as "train" or "val", or None if one has no such word.

  Example:
    >>> from metajax.data.shards.patterns import own_splits
    >>> own_splits(["set/imagenet-train-0000.tar", "set/imagenet-val-0000.tar"])
    ['train', 'validation']
  """
  found = []
  for path in paths:
    words = re.split(r"[^A-Za-z]+", "/".join(path.replace(os.sep, "/").split("/")[-2:]))
    found.append({SPLITS[word] for word in words if word in SPLITS})
  return [next(iter(splits)) for splits in found] if all(len(splits) == 1 for splits in found) else None


def _choices(inner, name):
  ends = RANGE.fullmatch(inner)
  if ends is None:
    if "," not in inner:
      raise ValueError(f"expected a range {{00..10}} or a list {{a,b}} in {name!r}, got {{{inner}}}")
    return inner.split(",")
  first, last = ends.groups()
  low, high = int(first[:20]), int(last[:20])
  if not low <= high < low + MOST_SHARDS:
    raise ValueError(f"expected a range of 1 to {MOST_SHARDS:,} numbers in {name!r}, got {{{inner[:60]}}}")
  padded = max(len(end) for end in (first, last)) if any(end[0] == "0" and len(end) > 1 for end in (first, last)) else 0
  return [str(number).zfill(padded) for number in range(low, high + 1)]


def _in_folder(folder):
  """The shards in a folder, or in its folders of splits; none if it also holds images or other folders."""

  def shards(path):
    names = sorted(name for name in os.listdir(path) if not name.startswith("."))
    if any(is_image_name(name) for name in names):
      return [], []
    below = [name for name in names if os.path.isdir(os.path.join(path, name))]
    of = {name: match[1] for name in names if (match := KIND.search(name))}
    kinds = [[os.path.join(path, name) for name in of if of[name] == kind] for kind in KINDS]
    # img2dataset leaves a table beside every shard: the first kind that is there counts.
    return next(filter(None, kinds), []), below

  found, below = shards(folder)
  if not below or found:
    return [] if below else found
  if not set(below) <= set(SPLITS):
    return []
  inner = [shards(os.path.join(folder, name)) for name in below]
  return [] if any(deeper or not files for files, deeper in inner) else [path for files, _ in inner for path in files]
