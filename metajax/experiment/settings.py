"""The settings of few-shot tests: ways and shots, or variable ones up to a number of ways."""

from collections.abc import Mapping
from typing import Any

Setting = tuple[int, int]  # ways and shots; of variable tasks the most ways, and no shots
VARIABLE = 0  # shots


def is_variable(setting: Setting) -> bool:
  """Whether the ways and shots of a setting differ by task."""
  return setting[1] == VARIABLE


def setting_name(record: Mapping[str, Any]) -> str:
  """The setting of a record, or of the entries that `entries_of` gives, in words; "" if there is none."""
  if record.get("ways_up_to"):
    return f"up to {record['ways_up_to']}-way variable-shot"
  return f"{record['ways']}-way {record['shots']}-shot" if record.get("ways") else ""


def entries_of(setting: Setting) -> dict[str, int]:
  """The entries of a setting in a record."""
  ways, shots = setting
  return {"ways_up_to": ways} if is_variable(setting) else {"ways": ways, "shots": shots}
