"""The plain characters of each script, drawn in each of matplotlib's typefaces."""

import importlib.util
import pathlib
import unicodedata
from collections.abc import Mapping

from fontTools.ttLib import TTFont
from PIL import Image, ImageDraw, ImageFont

Characters = Mapping[tuple[int, str], Image.Image]  # {(code point, face): image}

# Prefix of the Unicode names of a script's characters -> (script, its split).
SCRIPTS = {
  "LATIN": ("Latin", "train"),
  "GREEK": ("Greek", "train"),
  "CYRILLIC": ("Cyrillic", "train"),
  "COPTIC": ("Coptic", "train"),
  "CANADIAN SYLLABICS": ("Canadian syllabics", "train"),
  "LISU": ("Lisu", "train"),
  "OLD ITALIC": ("Old Italic", "train"),
  "HEBREW": ("Hebrew", "validation"),
  "LAO": ("Lao", "validation"),
  "OGHAM": ("Ogham", "validation"),
  "ARMENIAN": ("Armenian", "test"),
  "GEORGIAN": ("Georgian", "test"),
  "ARABIC": ("Arabic", "test"),
  "TIFINAGH": ("Tifinagh", "test"),
  "NKO": ("N'Ko", "test"),
}
NO_SCRIPT = ("", "")
# In order of priority: a class belongs to the first split that has one of its characters.
SPLITS = ("train", "validation", "test")

# Font file -> typeface family.
FACES = {
  **{f"DejaVuSans{style}.ttf": "DejaVu Sans" for style in ("", "-Bold", "-Oblique", "-BoldOblique")},
  **{f"DejaVuSansMono{style}.ttf": "DejaVu Sans Mono" for style in ("", "-Bold", "-Oblique", "-BoldOblique")},
  **{f"DejaVuSerif{style}.ttf": "DejaVu Serif" for style in ("", "-Bold", "-Italic", "-BoldItalic")},
  **{f"STIXGeneral{style}.ttf": "STIX" for style in ("", "Bol", "Italic", "BolIta")},
  **{f"{name}10.ttf": "Computer Modern" for name in ("cmr", "cmb", "cmti", "cmss", "cmtt")},
}
FAMILIES = tuple(dict.fromkeys(FACES.values()))

EM = 64  # em of the plain characters in pixels


def font_files() -> dict[str, pathlib.Path]:
  """The path of every face, by file name.

  Raises:
    FileNotFoundError: if matplotlib's typefaces are not installed.
  """
  spec = importlib.util.find_spec("matplotlib")
  folder = pathlib.Path(spec.origin).parent / "mpl-data" / "fonts" / "ttf" if spec and spec.origin else None
  found = {name: folder / name for name in FACES} if folder else {}
  missing = [name for name in FACES if name not in found or not found[name].is_file()]
  if missing:
    raise FileNotFoundError(f"glyphs are drawn in the typefaces that matplotlib ships; {folder} lacks {missing}")
  return found


def script_of(point: int) -> tuple[str, str]:
  """(script, split) of a code point; two empty strings for a character of no script."""
  character = chr(point)
  # Modifier letters (Lm) and compatibility characters are variants of other characters: smaller, raised, joined.
  if unicodedata.category(character) not in ("Lu", "Ll", "Lt", "Lo") or unicodedata.decomposition(character)[:1] == "<":
    return NO_SCRIPT
  name = unicodedata.name(character, "")
  return next((script for start, script in SCRIPTS.items() if name.startswith(start + " ")), NO_SCRIPT)


def priority(point: int) -> tuple[int, int]:
  """Sort key of characters: those of an earlier split come first."""
  return SPLITS.index(script_of(point)[1]), point


def plain_characters(files: Mapping[str, pathlib.Path]) -> Characters:
  """The image of every character that has ink, cropped with a margin of two pixels: {(code point, face): image}."""
  characters = {}
  canvas = Image.new("L", (4 * EM, 4 * EM))
  for face, path in files.items():
    with TTFont(path, lazy=True) as font:
      points = sorted(point for point in font.getBestCmap() or () if script_of(point) != NO_SCRIPT)
    if FACES[face] == "Computer Modern":
      points = [point for point in points if point < 128]  # its code points beyond ASCII are not Unicode's
    # The basic layout, so that the images do not depend on whether libraqm is installed.
    font = ImageFont.truetype(path, EM, layout_engine=ImageFont.Layout.BASIC)
    for point in points:
      canvas.paste(0, (0, 0, *canvas.size))
      ImageDraw.Draw(canvas).text((2 * EM, 2 * EM), chr(point), fill=255, font=font, anchor="ms")
      box = canvas.getbbox()
      if box:
        characters[point, face] = canvas.crop((box[0] - 2, box[1] - 2, box[2] + 2, box[3] + 2))
  return characters
