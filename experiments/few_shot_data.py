"""The data of the few-shot experiments: the parts that a setting names."""

import itertools
from pathlib import Path

from metajax.data import BrokenPictures, Source, load


def load_part(s, part: str) -> Source:
  """One part of a setting's data: "train", "validation" or "test"."""
  return load_split(s, f"{s.split}/{part}" if s.split else part)


def load_split(s, split: str) -> Source:
  """A split of a setting's data, by its whole name."""
  return load(s.data, split, size=s.size, download=s.download, rotations=rotates(s), skip_broken=s.skip_broken)


def load_parts(s) -> dict[str, Source]:
  """All three parts; where files of one's own cannot be read, those of all parts are named at once."""
  found, broken = {}, []
  for part in ("train", "validation", "test"):
    try:
      found[part] = load_part(s, part)
    except BrokenPictures as error:
      broken.append(error)
  if broken:
    raise BrokenPictures(
      [file for error in broken for file in error.files], sum(error.number for error in broken), s.data
    )
  return found


def rotates(s) -> bool:
  """Whether each quarter turn of a class is a class of its own, as is the custom on Omniglot."""
  return s.data == "omniglot"


def split_name(s) -> str:
  """What the records call the part that was tested on."""
  named = s.split or ("lake" if s.data == "omniglot" else "")
  return f"{named}/test" if named else "test"


def slug(s) -> str:
  """The data's name as a part of a file's name."""
  return Path(s.data).name if Path(s.data).exists() else s.data.replace("/", "_")


def check_disjoint(s, **parts: Source):
  """Refuses parts that share a class: what is tested would have been seen."""
  for first, second in itertools.combinations(parts, 2):
    if shared := set(parts[first].classes) & set(parts[second].classes):
      given = f"{len(shared)} of {s.data} in both, such as {min(shared)!r}"
      raise ValueError(f"expected no class of {first} in {second}, got {given}: leave out --split {s.split}")


def describe(s, parts: dict[str, Source]):
  """Prints what there is to train, validate and test on, and what could not be read."""
  train, validation, test = (_size(parts[part]) for part in ("train", "validation", "test"))
  print(f"{s.data}: {train} to train on, {validation} to validate, {test} to test")
  if left_out := broken(parts):
    print(
      f"left out {len(left_out)} file(s) that cannot be read: {', '.join(left_out[:5])}" + ", ..." * (len(left_out) > 5)
    )


def broken(parts: dict[str, Source]) -> list[str]:
  """The files that were left out because they cannot be read."""
  return sorted({name for source in parts.values() for name in source.broken})


def _size(source: Source) -> str:
  alphabets = len(set(source.groups) - {""})
  return f"{len(source.classes)} classes" + (f" of {alphabets} alphabets" if alphabets > 1 else "")
