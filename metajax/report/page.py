"""The page of a run: a self-contained HTML file that needs no network access."""

import base64
import math
import re
import struct
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import NamedTuple

from metajax.mesh import is_primary_host
from metajax.paths import place
from metajax.report.files import write_whole
from metajax.report.tables import configuration_table, records_table, text

_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_LINES_SHOWN = 12  # lines shown per note; the others are collapsed


class Swatch(NamedTuple):
  """A color in the notes of a page, e.g. the mean of all images.

  Attributes:
    label: description of the color.
    rgb: red, green and blue (or a single gray value), in [0, 1].
  """

  label: str
  rgb: Sequence[float]


def page(
  path: Path,
  *,
  title: str,
  summary: Sequence[tuple[str, str, str]],
  configuration: dict,
  records: Sequence[dict],
  figures: Sequence[tuple[str, str, Path]],
  notes: Sequence = (),
  warnings: Sequence[str] = (),
):
  """Writes one HTML file atomically, with all images embedded; empty sections are omitted.

  Only the primary host writes.

  Args:
    path: HTML file; missing folders are created.
    title: title of the page.
    summary: `(label, value, unit or explanation)` of the main results; text after a ± is set smaller.
    configuration: dictionary, possibly nested; "command", "seed", "machine", "precision" and "versions" come first.
    records: flat dictionaries, a row each; values that all of them share are shown once, below the table.
    figures: `(heading, caption, PNG or SVG file)` of each figure, in order.
    notes: strings, `Swatch`es, or `(heading, lines)` of strings and `Swatch`es.
    warnings: important messages, in a box at the top of the page.

  Raises:
    OSError: if an image cannot be read or the file cannot be written; the message names it.
    ValueError: if an image is neither PNG nor SVG, a swatch's color is not one or three numbers in [0, 1], or the path
      is a URL of a scheme that is not opened here.
  """
  path = place("the page", path)
  if not is_primary_host():
    return
  parts = [
    ("Figures", "".join(_figure(*figure) for figure in figures)),
    ("Records", records_table(records, configuration)),
    ("Configuration", configuration_table(configuration)),
    ("Notes", _notes(notes)),
  ]
  parts = [(name, body) for name, body in parts if body]
  html = _document(title, parts, f"{_warnings(warnings)}{_tiles(summary)}")
  write_whole(path, html.encode("utf-8", "replace"))  # file names may contain lone surrogates


def _document(title: str, parts: Sequence[tuple[str, str]], top: str) -> str:
  """The HTML of a page: the top, then its sections, (name, body) each."""
  contents = "".join(f'<li><a href="#{name.lower()}">{name}</a></li>' for name, _ in parts)
  sections = "".join(f'<section id="{name.lower()}"><h2>{name}</h2>{body}</section>\n' for name, body in parts)
  return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{text(title)}</title>
<style>
{Path(__file__).with_name("page.css").read_text()}</style>
</head>
<body>
<header><h1>{text(title)}</h1>{f'<nav aria-label="Contents"><ul>{contents}</ul></nav>' if parts else ""}</header>
<main>
{top}
{sections}</main>
</body>
</html>
"""


def _warnings(said) -> str:
  lines = "".join(f"<p>{text(line[:1].upper() + line[1:])}.</p>" for line in said)
  return f'<div class="warning" role="note" aria-label="Warning">{lines}</div>\n' if lines else ""


def _tiles(summary) -> str:
  tiles = ""
  for label, value, unit in summary:
    figure, sign, rest = str(value).partition("±")
    small = f" <small>± {text(rest.strip())}</small>" if sign else ""
    said = f'<dd class="unit">{text(unit)}</dd>' if unit else ""
    tiles += f'<div class="tile"><dt>{text(label)}</dt><dd class="value">{text(figure.strip())}{small}</dd>{said}</div>'
  return f'<dl class="tiles">{tiles}</dl>' if tiles else ""


def _figure(heading: str, caption: str, path: Path) -> str:
  content = place("a figure", path).read_bytes()
  kind, size = _kind_and_size(content, path)
  source = f"data:{kind};base64,{base64.b64encode(content).decode()}"
  alt = text(f"{heading}. {caption}" if caption else heading)
  said = f"<p>{text(caption)}</p>" if caption else ""
  image = f'<div class="image" tabindex="0"><img src="{source}" alt="{alt}"{size}></div>'
  return f"<figure><figcaption><h3>{text(heading)}</h3>{said}</figcaption>{image}</figure>\n"


def _kind_and_size(content: bytes, path: Path) -> tuple[str, str]:
  """The media type of an image, and for a PNG its size attributes in CSS pixels, by its resolution."""
  if content.startswith(b"\x89PNG\r\n\x1a\n"):
    width, height = struct.unpack(">II", content[16:24])
    dense = re.search(rb"\x00\x00\x00\x09pHYs(.{4}).{4}\x01", content[:2000], re.DOTALL)
    scale = 96 / (struct.unpack(">I", dense[1])[0] * 0.0254) if dense else 1.0
    return "image/png", f' width="{round(width * scale)}" height="{round(height * scale)}"'
  if b"<svg" in content[:2000]:
    return "image/svg+xml", ""
  raise ValueError(f"expected a PNG or SVG image, got {str(path)!r}")


def _notes(notes) -> str:
  said = "".join(_note(note) for note in notes)
  return f'<div class="notes">{said}</div>' if said else ""


def _note(note) -> str:
  if isinstance(note, str | Swatch):
    return f"<p>{_line(note)}</p>"
  heading, lines = note
  items = [f"<li>{_line(line)}</li>" for line in lines]
  shown, more = items[:_LINES_SHOWN], items[_LINES_SHOWN:]
  folded = f"<details><summary>{len(more):,} more</summary><ul>{''.join(more)}</ul></details>" if more else ""
  listed = f"<ul>{''.join(shown)}</ul>" if shown else ""
  return f"<div><h3>{text(heading)}</h3>{listed}{folded}</div>"


def _line(line: str | Swatch) -> str:
  if not isinstance(line, Swatch):
    return text(line)
  parts = [float(part) for part in line.rgb]
  if len(parts) not in (1, 3) or not all(math.isfinite(part) and 0 <= part <= 1 for part in parts):
    raise ValueError(f"expected one or three color values in [0, 1], got {line.rgb}")
  color = "#" + "".join(f"{round(255 * part):02x}" for part in (parts * 3)[:3])
  box = f'<svg viewBox="0 0 2 1" aria-hidden="true"><rect width="2" height="1" fill="{color}"/></svg>'
  return f'<span class="swatch">{box}<span>{escape(str(line.label))}</span><code>{color}</code></span>'
