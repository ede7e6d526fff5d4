"""Flags that had other names in earlier versions: recorded commands and run folders keep using those."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from metajax.experiment import flags


class Former(NamedTuple):
  """A former name of a flag. A switch stood for one of two values.

  Attributes:
    name: the former flag, "--rate".
    on: the value of the flag where the switch was set; None if it was no switch.
    off: the value where it was not.
  """

  name: str
  on: str | None = None
  off: str = "none"

  @property
  def field(self) -> str:
    """Its name in the configuration of a run."""
    return self.name.removeprefix("--").replace("-", "_")


def also(*names: str) -> tuple[Former, ...]:
  """Former names of a flag: `Annotated[Positive, *also("--rate")]`."""
  return tuple(map(Former, names))


def of(kind: Any) -> list[Former]:
  """The former names in a flag's annotation."""
  return [one for one in flags.marks(kind) if isinstance(one, Former)]


def current(command: Callable, arguments: Sequence[str]) -> list[str]:
  """The arguments with today's flags in place of former ones."""
  now = dict(_renamed(command))
  found = []
  for argument in arguments:
    flag, equals, value = argument.partition("=")
    words = now.get(flag.replace("_", "-")) if flag.startswith("--") else None
    found += [argument] if words is None else [words[0] + equals + value, *words[1:]]
  return found


def value_in(values: Mapping[str, Any], name: str, kind: Any, default: Any) -> Any:
  """The value of a flag in the configuration of an earlier run; the default if the flag is newer than the run."""
  if name in values:
    return values[name]
  for former in of(kind):
    if former.field in values:
      value = values[former.field]
      return value if former.on is None else former.on if value else former.off
  return default


def _renamed(command: Callable) -> Iterator[tuple[str, tuple[str, ...]]]:
  """(former flag, the words that stand for it today)."""
  for name, kind in flags.kinds_of(command).items():
    flag = f"--{flags.dashed(name)}"
    for former in of(kind):
      negated = former.name.replace("--", "--no-", 1)
      yield former.name, (flag,) if former.on is None else (flag, former.on)
      yield negated, (flag.replace("--", "--no-", 1),) if former.on is None else (flag, former.off)
