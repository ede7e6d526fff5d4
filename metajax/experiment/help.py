"""The text of `--help`: the flags of a command in boxes of related ones, then the presets and the flags of hosts."""

import contextlib
import io
import re
import sys
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, NamedTuple

import tyro

from metajax.experiment.several_hosts import Hosts

TOP = re.compile(r"(╭─)? (\S+ )?options ")
PATH = re.compile(r"(?<![\w.])(?:\w+\.)+(?P<group>\w+)(?= options )")  # in a title, a group with those that hold it
TITLES = {"outer": "optimizer", "tests": "test"}
COLOR = re.compile(r"\x1b\[[0-9;]*m")


def text(
  made: Callable, presets: Mapping[str, Any] | None, chosen: str | None, *, on_hosts: bool = True, **how: Any
) -> str:
  """The help of a command.

  Args:
    made: the config or function whose parameters are the flags.
    presets: `{name: config}`.
    chosen: name of the preset whose defaults are shown.
    on_hosts: Whether several hosts can run the command together.
    how: arguments of `tyro.cli`.

  Returns:
    Text as wide as the terminal, in color where the terminal has colors.
  """
  start, *boxes = _boxes(_printed(made, **how))
  _, _, *preset, hosts = _boxes(_printed(_every(tuple(presets or ()), chosen), config=how["config"]))
  return "".join([start, *preset, *map(_titled, boxes), *[hosts] * on_hosts])


def _every(presets: tuple[str, ...], chosen: str | None) -> type:
  """The flags that are no part of a config."""

  paper = '; "paper" has the settings of the paper' if "paper" in presets else ""
  about = f"Name of the preset{paper}. --budget is an alias."

  class Preset(NamedTuple):
    """Defaults to start from; flags given as well override them."""

    preset: Annotated[Literal[presets or ("",)], tyro.conf.arg(help=about)] = chosen  # ty: ignore

  class WithPresets(NamedTuple):
    """Presets and hosts."""

    preset: Preset = Preset()
    hosts: Hosts = Hosts()

  class Alone(NamedTuple):
    """Hosts."""

    hosts: Hosts = Hosts()

  return WithPresets if presets else Alone


def _printed(made: Callable, **how: Any) -> str:
  """What tyro prints for `--help`."""
  page = _Page(sys.stdout)
  with contextlib.redirect_stdout(page), contextlib.suppress(SystemExit):
    tyro.cli(made, args=["--help"], **how)
  return page.getvalue()


def _boxes(page: str) -> list[str]:
  """The lines before the first box, and each box."""
  found = [""]
  for line in page.splitlines(keepends=True):
    if TOP.match(COLOR.sub("", line)):
      found.append("")
    found[-1] += line
  return found


def _titled(box: str) -> str:
  """A box whose title is the name of its group, without the groups that hold it; the top border is as long as
  before."""
  top, end, rest = box.partition("\n")
  path = PATH.search(top)
  if path is None:
    return box
  name = TITLES.get(path["group"], path["group"])
  corner = top.rfind("╮") if "╮" in top else len(top)
  longer = top[:corner] + top[corner - 1] * (len(path[0]) - len(name)) + top[corner:]
  return longer[: path.start()] + name + longer[path.end() :] + end + rest


class _Page(io.StringIO):
  """Text for a terminal: in its encoding, and in color if it has colors."""

  def __init__(self, terminal: Any):
    super().__init__()
    self._terminal = terminal

  @property
  def encoding(self) -> str:  # ty: ignore[incompatible-property-override]
    return getattr(self._terminal, "encoding", None) or "ascii"

  def isatty(self) -> bool:
    return self._terminal.isatty()
