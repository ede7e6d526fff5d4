"""Access to the groups of flags of a config by type, at any depth."""

from typing import Any, TypeVar

Group = TypeVar("Group")


def group_of(config: Any, kind: type[Group]) -> Group:
  """Returns the only group of a type in a config.

  Args:
    config: NamedTuple of flags and of groups of flags.
    kind: Type of the group, such as `Training`.

  Raises:
    ValueError: if the config has no such group, or several.
  """
  found = groups_of(config, kind)
  if len(found) != 1:
    there = ", ".join(getattr(type(config), "_fields", ())) or type(config).__name__
    raise ValueError(f"expected one {kind.__name__} in the config, got {len(found)} (Config has: {there})")
  return found[0]


def groups_of(config: Any, kind: type[Group]) -> list[Group]:
  """Returns all groups of a type in a config, at any depth."""
  if isinstance(config, kind):
    return [config]
  return [found for one in config for found in groups_of(one, kind)] if hasattr(config, "_fields") else []
