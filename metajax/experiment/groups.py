"""The groups of flags of a config, found by their types: a config holds them itself, or in groups of groups."""

from typing import Any, TypeVar

Group = TypeVar("Group")


def group_of(config: Any, kind: type[Group]) -> Group:
  """The one group of a type in a config.

  Args:
    config: a NamedTuple of flags and of groups of flags, wherever in them the group stands.
    kind: the group's type, such as `Training`.

  Raises:
    ValueError: if there is none, or there are several.
  """
  found = groups_of(config, kind)
  if len(found) != 1:
    there = ", ".join(getattr(type(config), "_fields", ())) or type(config).__name__
    raise ValueError(f"expected one {kind.__name__} in the config, got {len(found)} (Config has: {there})")
  return found[0]


def groups_of(config: Any, kind: type[Group]) -> list[Group]:
  """All groups of a type in a config, or in a group of it."""
  if isinstance(config, kind):
    return [config]
  return [found for one in config for found in groups_of(one, kind)] if hasattr(config, "_fields") else []
