"""What a run's folder says of the run, in `run.json`: data of whoever wrote it, looked at before it is believed."""

import importlib
import re
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from experiments.flags import HELP, LONGEST
from metajax.paths import read_json

KINDS = {"experiment": str, "arguments": list, "flags": dict, "sessions": list, "channels": int, "seeds_at_once": int}
MAY_LACK = ("channels", "seeds_at_once")
HERE = Path(__file__).resolve().parent


def configuration(folder: Path) -> dict:
  """What `run.json` says.

  Raises:
    OSError: there is none, or it cannot be read.
    ValueError: it is no configuration of a run, naming what is not.
  """
  path = Path(folder) / "run.json"
  if not path.exists():
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


def commands() -> list[str]:
  """The modules of this package that are commands."""
  runs = re.compile(r"^  command_line\.run\(main", re.MULTILINE)
  return [f"experiments.{path.stem}" for path in sorted(HERE.glob("*.py")) if runs.search(path.read_text("utf-8"))]


def module_of(folder: Path, modules: Sequence[str] = ()) -> ModuleType:
  """The module of a run's command: one of this package's commands, never another that its folder names.

  Args:
    folder: of the run.
    modules: others that may be imported, as whoever runs this says.

  Raises:
    OSError, ValueError: as `configuration`, and if it is none of these.
  """
  name = configuration(folder)["experiment"]
  if name not in (*commands(), *modules):
    given = f"got {name[:LONGEST]!r}, which --modules would have to name"
    raise ValueError(f"expected a run of a command of experiments in {str(folder)!r}, {given}")
  try:
    module = importlib.import_module(name)
  except ImportError as error:
    raise ValueError(f"expected a module {name!r} that can be imported, got {error}") from None
  if not hasattr(module, "main"):
    raise ValueError(f"expected a module {name!r} with a main, got one without")
  return module
