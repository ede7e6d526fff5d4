"""Experiments: one command per result. `python -m experiments` lists them."""

import os
import re
import signal
import sys
from pathlib import Path

# A command may be stopped during its imports, which take seconds: it has nothing to save yet.
if sys.argv[:1] == ["-m"]:
  signal.signal(signal.SIGTERM, lambda number, frame: os._exit(0))
  signal.signal(signal.SIGINT, lambda number, frame: os._exit(130))


def commands() -> dict[str, str]:
  """Returns `{module: first line of its docstring}` for all commands."""
  found = {}
  for path in sorted(Path(__file__).resolve().parent.glob("[!_]*.py")):
    first = re.match(r'"""(.*?)(?:"""|\n)', path.read_text("utf-8"))
    found[f"{__name__}.{path.stem}"] = first[1] if first else ""
  return found
