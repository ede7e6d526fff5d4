"""The index of tar shards: where the members of each sample lie, in a few bytes a sample."""

import array
import concurrent.futures
import json
import os
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from metajax.data.files.opening import open_regular
from metajax.data.files.verification import Progress
from metajax.data.shards.tar import parts, shown
from metajax.data.tfds.random_access import remembered

READERS = 8  # threads; on a cold disk they mostly wait
LONGEST = 2**31 - 1  # bytes of a member
VERSION = 1  # of the cached index


class Index(NamedTuple):
  """Where the members of each sample lie.

  Attributes:
    files: path of each shard.
    shards: int32 `[n]`, number of the shard of each sample.
    starts: int64 `[n, kinds]`, first byte of each member in its shard.
    lengths: int32 `[n, kinds]`, bytes of each member; -1 if the sample has none of this kind.
    left_out: names of the samples, members and parts of shards that were left out, each with the reason.
  """

  files: list[str]
  shards: np.ndarray
  starts: np.ndarray
  lengths: np.ndarray
  left_out: tuple[str, ...]


def index_of(
  name: str, files: Sequence[str], kinds: Sequence[Sequence[str]], needed: Sequence[tuple[str, Sequence[int]]]
) -> Index:
  """The `Index` of tar shards, from their headers alone, cached on disk if they are large.

  A sample is a run of members with one key, the path up to the first dot of the file's name, as in webdataset. Left out
  are members that are cut off, samples that lack a needed member, and samples whose key occurred before in the shard.

  Args:
    name: name of the set, for messages.
    files: paths of the shards.
    kinds: extensions of each kind of member, in order of preference.
    needed: `(noun, kinds)`; a sample needs a member of at least one of these kinds.

  Raises:
    OSError: if a shard cannot be read.
    ValueError: if no sample is left.
  """

  def make():
    progress = Progress(f"indexed {{}} of {len(files):,} shards of {name}", len(files))

    def one(path):
      found = _of_shard(path, kinds, needed)
      progress.advance(1)
      return found

    with concurrent.futures.ThreadPoolExecutor(READERS) as pool:
      parts = list(pool.map(one, files))
    starts, lengths, left_out = zip(*parts, strict=True)
    return {
      "shards": np.repeat(np.arange(len(files), dtype=np.int32), [len(part) for part in lengths]),
      "starts": np.concatenate(starts),
      "lengths": np.concatenate(lengths),
      "left_out": np.array(json.dumps([text for texts in left_out for text in texts])),
    }

  of = ("tar", VERSION, tuple(map(tuple, kinds)), tuple((noun, tuple(some)) for noun, some in needed))
  found = remembered([os.path.abspath(path) for path in files], of, make)
  left_out = tuple(json.loads(str(found["left_out"])))
  if not len(found["shards"]):
    of_these = f", left out: {', '.join(left_out[:3])}" if left_out else ""
    wanted = " and a ".join(f"{noun} ({', '.join(end for k in some for end in kinds[k])})" for noun, some in needed)
    raise ValueError(f"expected samples with an {wanted} in {name}, got none{of_these}")
  return Index(list(files), found["shards"], found["starts"], found["lengths"], left_out)


def _of_shard(path, kinds, needed):
  """The starts and lengths of the members of a shard's samples, and what was left out."""
  place_of = {end.encode(): (kind, rank) for kind, ends in enumerate(kinds) for rank, end in enumerate(ends)}
  starts, lengths, left_out = array.array("q"), array.array("i"), []
  samples, seen, current, ranks = [], set(), None, []
  with open_regular(path, buffering=0) as file:
    size = os.fstat(file.fileno()).st_size
    for part in parts(file.fileno(), size):
      for name, start, length in zip(*part[:3], strict=True):
        slash = name.rfind(b"/") + 1
        dot = name.find(b".", slash)
        if dot <= slash:  # no extension, or no key
          continue
        key = name[:dot]
        if key != current:
          current, ranks = key, [-1] * len(kinds)
          samples.append(key)
          starts.extend(ranks)
          lengths.extend(ranks)
        kind, rank = place_of.get(name[dot + 1 :].lower(), (-1, 0))
        if kind < 0:
          continue
        if start + length > size or length > LONGEST:
          reason = "cut off" if start + length > size else f"of {length:,} bytes"
          left_out.append(f"{path}: {shown(name)} ({reason})")
        elif ranks[kind] == rank:
          left_out.append(f"{path}: {shown(name)} (twice in its sample)")
        elif ranks[kind] < 0 or rank < ranks[kind]:
          ranks[kind] = rank
          starts[kind - len(kinds)], lengths[kind - len(kinds)] = start, length
      if part.damage:
        left_out.append(f"{path} ({part.damage})")
  starts, lengths = (np.array(of).reshape(-1, len(kinds)) for of in (starts, lengths))
  good = np.ones(len(samples), bool)
  for noun, some in needed:
    there = (lengths[:, list(some)] >= 0).any(1)
    left_out += [f"{path}: {shown(samples[i])} (no {noun})" for i in np.flatnonzero(good & ~there)]
    good &= there
  for i in np.flatnonzero(good) if len(set(samples)) < len(samples) else ():
    if samples[i] in seen:
      left_out.append(f"{path}: {shown(samples[i])} (the key occurred before)")
      good[i] = False
    seen.add(samples[i])
  return starts[good].astype(np.int64), lengths[good].astype(np.int32), left_out
