"""The flags of a command line as text: each there is and may say what it says, or an error of one line that tells why.

What they stand for is tyro's to say; its own errors are boxes of ten lines, and it has flags that write files.
"""

import difflib
import inspect
import types
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from tyro.conf import Positional

LONGEST = 60  # characters of a value that an error quotes
HELP = ("-h", "--help")
NUMBERS = {int: "a whole number", float: "a number"}


def check(command: Callable, arguments: Sequence[str], more: Sequence[str] = ()):
  """Refuses arguments that no value of a flag can be made of.

  Args:
    command: a function of flags, or a config: a NamedTuple of flags and groups of flags.
    arguments: of the command line.
    more: other flags that the command has, for what is said of an unknown one.

  Raises:
    ValueError: naming the first one, with the flag that is most like it; or a flag that is needed and not there.
  """
  kinds = {dashed(name): kind for name, kind in kinds_of(command).items()}
  given = set()
  for flag, values in _parts(kinds, arguments, more):
    given.add(flag)
    for value in values if flag in kinds else ():
      _check_value(flag, kinds[flag], value)
  if given.isdisjoint(HELP):
    _check_needed(command, given)


def kinds_of(command: Callable) -> dict[str, Any]:
  """`{name: type}` of a command's flags, those in groups too."""
  found = {}
  for name, kind in hints_of(command).items():
    found |= kinds_of(kind) if hasattr(kind, "_fields") else {name: kind}
  return found


def hints_of(command: Callable) -> dict[str, Any]:
  """`{name: type}` of a function's parameters or of a config's fields, some of which are groups of flags."""
  hints = get_type_hints(inspect.unwrap(command), include_extras=True)
  return {name: hints.get(name, Any) for name in inspect.signature(command).parameters}


def wanted(kind: Any) -> list:
  """The types, and the texts, that a value of a flag may be of."""
  origin, arguments = get_origin(_plain(kind)), get_args(_plain(kind))
  if origin is Literal:
    return list(arguments)
  if origin in (tuple, Union, types.UnionType):
    return [one for part in arguments if part is not ... for one in wanted(part)]
  return [_plain(kind)]


def take(arguments: list[str], *names: str) -> list[str]:
  """Removes every occurrence of a flag, under any of its names, from the arguments; returns its values in order."""
  values, i = [], 0
  while i < len(arguments):
    flag, equals, value = arguments[i].partition("=")
    if arguments[i] in names:
      values.append(" ".join(arguments[i + 1 : i + 2]))
      del arguments[i : i + 2]
    elif equals and flag in names:
      values.append(value)
      del arguments[i]
    else:
      i += 1
  return values


def with_value(arguments: Sequence[str], name: str, value: str) -> list[str]:
  """The arguments with another value of a flag where it stands last, or with the flag at the end."""
  found = list(arguments)
  at = max((i for i, one in enumerate(found) if one.partition("=")[0] == name), default=None)
  if at is None:
    return [*found, name, value]
  if found[at] == name:
    return [*found[: at + 1], value, *found[at + 2 :]]
  return [*found[:at], f"{name}={value}", *found[at + 1 :]]


def in_one_line(said: str) -> str:
  """What tyro says in a box, but for its title and its advice."""
  lines = [line.strip("│╭╮╰╯ \n") for line in said.splitlines()[1:]]
  rule = next((i for i, line in enumerate(lines) if line.startswith("──")), len(lines))
  return " ".join(" ".join(lines[:rule]).split()) or "expected flags as --help has them"


def _parts(kinds: dict, arguments: Sequence[str], more: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
  """Each flag with its values; "" is the flag of what stands before all of them, or of what one has too many of."""
  flag, values, most = "", [], len(arguments)
  for argument in arguments:
    if argument.startswith("--") or argument in HELP:
      if flag or values:
        yield flag, values
      flag, equals, value = argument.lstrip("-").partition("=")
      flag = argument if argument in HELP else _known(dashed(flag), kinds, more)
      values = [value] if equals else []
      most = 0 if equals or flag not in kinds else _most(kinds[flag])
    elif len(values) < most or not flag:
      values.append(argument)
    else:
      yield flag, values
      flag, values, most = "", [argument], len(arguments)
  if flag or values:
    yield flag, values


def _known(flag: str, kinds: dict, more: Sequence[str]) -> str:
  """The flag's name, of `--no-flag` too."""
  plain = flag.removeprefix("no-")
  if flag in kinds:
    return flag
  if plain in kinds and kinds[plain] is bool:
    return plain
  near = difflib.get_close_matches(flag, [*kinds, *more, "help"], n=1)
  advice = f"did you mean --{near[0]}?" if near else "--help lists all"
  raise ValueError(f"unknown flag {f'--{flag}'[:LONGEST]!r}: {advice}")


def _most(kind) -> int:
  """How many values a flag of a type has at most."""
  if kind is bool:
    return 0
  return 10**6 if get_origin(_plain(kind)) is tuple else 1


def _check_value(flag: str, kind, value: str):
  kinds, got = wanted(kind), f"got {value[:LONGEST]!r}"
  if types.NoneType in kinds and value == "None":
    return
  for number, called in NUMBERS.items():
    if number in kinds:
      try:
        return number(value)
      except ValueError:
        raise ValueError(f"expected --{flag} to be {called}, {got}") from None
  choices = [one for one in kinds if isinstance(one, str)]
  if choices and value not in choices:
    raise ValueError(f"expected --{flag} to be one of {', '.join(choices)}, {got}")


def _plain(kind):
  return get_args(kind)[0] if get_origin(kind) is Annotated else kind


def _check_needed(command: Callable, given: set[str]):
  kinds = hints_of(command)
  for name, parameter in inspect.signature(command).parameters.items():
    if parameter.default is not parameter.empty:
      continue
    alone = _is_positional(kinds[name])
    there = "" in given or _most(kinds[name]) > 1 if alone else dashed(name) in given
    if not there:
      raise ValueError(f"expected {name.upper() if alone else f'--{dashed(name)}'}, got none: --help says what it is")


def _is_positional(kind) -> bool:
  """Whether it has no flag: `tyro.conf.Positional[...]`."""
  return any(one in marks(kind) for one in get_args(Positional[int])[1:])


def dashed(name: str) -> str:
  """The name of a field as a flag has it, without the dashes in front."""
  return name.replace("_", "-")


def marks(kind: Any) -> tuple:
  """What an annotation says beside the type."""
  return get_args(kind)[1:] if get_origin(kind) is Annotated else ()
