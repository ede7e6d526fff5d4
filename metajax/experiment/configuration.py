"""The configuration of a run, in `run.json` of its folder, validated as untrusted data."""

import os
import reprlib
from pathlib import Path
from typing import Any

from metajax.experiment.flags import HELP, LONGEST
from metajax.paths import exists, place, read_json

KINDS = {"experiment": str, "arguments": list, "flags": dict, "sessions": list, "channels": int, "seeds_at_once": int}
MAY_LACK = ("channels", "seeds_at_once")


def configuration(folder: Path) -> dict:
  """Reads `run.json`.

  Raises:
    OSError: if the file is missing or cannot be read.
    ValueError: if the file is no configuration of a run, naming the invalid entry.
  """
  path = place("the folder of a run", folder) / "run.json"
  if not exists(path):
    raise FileNotFoundError(f"expected the folder of a run, with a run.json, got {str(folder)!r}")
  found = read_json(path)
  for name, kind in KINDS.items():
    value = found.get(name)
    fits = value > 0 if type(value) is int else True
    if not (value is None and name in MAY_LACK) and not (type(value) is kind and fits):
      wanted = "a number above 0" if kind is int else f"a {kind.__name__}"
      raise ValueError(f"expected {name} to be {wanted} in {str(path)!r}, got {str(value)[:LONGEST]!r}")
  odd = [one for one in found["arguments"] if not isinstance(one, str) or one in HELP]
  odd += [one for one in found["sessions"] if not isinstance(one, dict)]
  if odd:
    raise ValueError(f"expected arguments and sessions of a run in {str(path)!r}, got {str(odd[0])[:LONGEST]!r}")
  return found


def displayed_config(folder: Path) -> dict:
  """The entries of `run.json` for the page: all but the arguments, which are in the command."""
  return {name: value for name, value in configuration(folder).items() if name != "arguments"}


def plain(value: Any) -> Any:
  """Converts the value of a flag to JSON types."""
  if isinstance(value, tuple | list):
    return [plain(one) for one in value]
  return str(value) if isinstance(value, os.PathLike) else value


def shown(value: Any) -> str:
  """The value of a flag, as on the command line."""
  if isinstance(value, list | tuple):
    return (
      " ".join(map(shown, value)) if not any(isinstance(one, list | dict) for one in value) else reprlib.repr(value)
    )
  return reprlib.repr(value) if isinstance(value, dict) else str(value)
