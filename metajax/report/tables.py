"""Renders dictionaries as HTML tables."""

from collections.abc import Sequence
from html import escape
from typing import Any

# Order of known columns; others follow. Those of _ALWAYS stay in the table even if all rows are equal.
_ALWAYS = ("learner", "ways", "shots", "value", "published")
_ORDER = ("learner", "policy", "data", "split", "measure", "ways", "shots", "value", "chance", "points_ahead_of_pixels")
_ORDER += ("published", "queries", "tasks")
_HEADINGS = {"learner": "method", "policy": "query norm", "points_ahead_of_pixels": "lead over pixels ± 95% CI"}
APART = ("command", "seed", "machine", "precision", "versions")
_NOT_COUNTED = ("seed", "year")  # numbers without thousands separators


def text(value: Any, name: str = "") -> str:
  """A value formatted for readers and escaped: empty values are a dash, integers have thousands separators."""
  if value is None or value == "":
    return "–"
  if isinstance(value, bool):
    return "yes" if value else "no"
  if isinstance(value, int) and abs(value) >= 1000 and name not in _NOT_COUNTED:
    return f"{value:,}"
  if isinstance(value, float):
    return f"{value:.6g}"
  if isinstance(value, dict):
    return ", ".join(f"{text(key)} {text(inner)}" for key, inner in value.items()) or "–"
  if isinstance(value, list | tuple | set | frozenset):
    return ", ".join(text(inner) for inner in value) or "–"
  # HTML forbids control characters, which file names may contain.
  return escape("".join(c if c.isprintable() or c in "\n\t" else "�" for c in str(value)))


def records_table(records: Sequence[dict], configuration: dict) -> str:
  """Flat records as a table, a row each, followed by the values that all rows share (except those of the run itself).

  Returns:
    HTML; empty without records.
  """
  if not records:
    return ""
  every = dict.fromkeys(name for record in records for name in record)
  found = [name for name in every if name != "interval" and not name.endswith("_ci95")]
  names = [name for name in _ORDER if name in found] + [name for name in found if name not in _ORDER]
  same = [name for name in names if all(_equal(r, records[0], name) for r in records) and name not in _ALWAYS]
  columns = [name for name in names if name not in same and name != "versions"]
  measure = records[0].get("measure") if "measure" in same else None
  head = "".join(f'<th scope="col"{_class(name, records)}>{_heading(name, measure)}</th>' for name in columns)
  decimals = {name: _decimals(records, name) for name in columns}

  def cell(record, name):
    return f"<td{_class(name, records)}>{_cell(record, name, decimals[name])}</td>"

  rows = "".join(f"<tr>{''.join(cell(record, name) for name in columns)}</tr>\n" for record in records)
  told = {name: configuration.get(name) for name in APART}
  said = [f"{_spaced(n)} <b>{_cell(records[0], n)}</b>" for n in same if records[0].get(n) not in (None, told.get(n))]
  below = f'<p class="same">In every row: {" · ".join(said)}</p>' if said else ""
  return (
    f'<div class="scroll" tabindex="0"><table class="records"><thead><tr>{head}</tr></thead>'
    f"<tbody>{rows}</tbody></table></div>{below}"
  )


def configuration_table(configuration: dict) -> str:
  """A nested dictionary as a table for each part, after the command, seed, machine and versions; empty for none."""
  if not configuration:
    return ""
  rest = {name: value for name, value in configuration.items() if name not in APART}
  flat = {name: value for name, value in rest.items() if not _is_nested(value)}
  told = {name: configuration.get(name) for name in APART}
  groups = [_group("", flat, told)] * bool(flat) + [_group(name, rest[name], told) for name in rest if name not in flat]
  return _repeat(configuration) + (f'<div class="groups">{"".join(groups)}</div>' if groups else "")


def _repeat(configuration) -> str:
  command = configuration.get("command")
  code = f"<pre><code>{text(command)}</code></pre>" if command else ""
  parts = [configuration, *(part for part in configuration.values() if isinstance(part, dict))]
  said = [f"seed {text(part['seed'], 'seed')}" for part in parts if part.get("seed") is not None][:1]
  said += [text(configuration[name]) for name in ("machine", "precision") if configuration.get(name)]
  versions = configuration.get("versions") or {}
  said += [text(f"{name} {version}") for name, version in versions.items()] if isinstance(versions, dict) else []
  line = f"<p>{' · '.join(said)}</p>" if said else ""
  return f'<div class="repeat">{code}{line}</div>' if code or line else ""


def _group(name, values, told) -> str:
  heading = f"<h3>{_spaced(name)}</h3>" if name else ""
  rows = f'<table class="configuration"><tbody>{_rows(values, told)}</tbody></table>'
  return f'<div class="group">{heading}{rows}</div>\n'


def _rows(values: dict | list, told: dict, depth: int = 0) -> str:
  rows, indent = "", f' style="padding-left: {1 + depth}rem"' if depth else ""
  for name, value in values.items() if isinstance(values, dict) else enumerate(values, 1):
    if depth and value is not None and told.get(name) == value:
      continue  # the same as for the run itself, e.g. the machine of a session
    if _is_nested(value):
      rows += f'<tr><th scope="rowgroup" colspan="2"{indent}>{_spaced(name)}</th></tr>\n{_rows(value, told, depth + 1)}'
    else:
      rows += f'<tr><th scope="row"{indent}>{_spaced(name)}</th><td>{text(value, str(name))}</td></tr>\n'
  return rows


def _is_nested(value) -> bool:
  """Whether a value becomes nested rows: a non-empty dictionary, or a list of such."""
  listed = list(value) if isinstance(value, list | tuple) else [value]
  return bool(listed) and all(isinstance(inner, dict) and inner for inner in listed)


def _spaced(name) -> str:
  return text(str(name).replace("_", " "))


def _equal(record, other, name) -> bool:
  return name in record and name in other and record[name] == other[name]


def _heading(name, measure) -> str:
  return f"{_spaced(measure)} ± 95% CI" if name == "value" and measure else _spaced(_HEADINGS.get(name, name))


def _cell(record, name, decimals=None) -> str:
  value, interval = record.get(name), record.get("interval" if name == "value" else f"{name}_ci95")
  said = f"{value:.{decimals}f}" if isinstance(value, float) and decimals else text(value, name)
  if name == "command":
    return f"<code>{said}</code>"
  return f"{said} <small>± {text(interval)}</small>" if interval is not None else said


def _decimals(records, name) -> int:
  """The number of decimals for all floats of a column; 0 if they are too different for a common number."""
  said = [text(record[name]) for record in records if isinstance(record.get(name), float)]
  longest = max((len(value.partition(".")[2]) for value in said), default=0)
  return longest if longest <= 3 and not any("e" in value for value in said) else 0


def _class(name, records) -> str:
  values = [record[name] for record in records if record.get(name) is not None]
  number = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
  words = ["number"] * number + ["strong"] * (name == "value")
  return f' class="{" ".join(words)}"' if words else ""
