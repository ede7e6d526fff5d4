"""Glyphs, the embedded data set: the letters of many scripts, drawn in the typefaces that matplotlib ships."""

import hashlib
import importlib.util
import math
import pathlib
import unicodedata
import zlib
from collections.abc import Sequence

import numpy as np
import PIL
from fontTools.ttLib import TTFont
from PIL import Image, ImageDraw, ImageFilter, ImageFont, features

from metajax import checks
from metajax.data.builtin.cache import cache_folder, read, write
from metajax.data.source import Source
from metajax.paths import AnyPath

# How the Unicode names of a script's letters begin -> (script, the split that has it).
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
# By priority: a class belongs to the first of these that has one of its letters.
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

PICTURES = 24  # of each class, shared out over the faces that have it
MOST_SIDE, MOST_DISTORTION = 512, 100
NEAR = 0.1  # letters of two splits whose squared distance is less than this part of their ink count as the same
EM = 64  # of the plain letters, in pixels
LETTER = (0.8, 0.74)  # parts of a picture's side: the em, and the longest side of any letter's ink

# Distortion at strength 1. Each amount is uniform in plus or minus the bound; lengths are parts of a picture's side.
ROTATION = math.radians(22)
SHEAR = 0.25
SCALE, STRETCH = 0.15, 0.15  # of logarithms: both axes together, one against the other
SHIFT = 0.085
WARP, CELLS = 0.035, 3  # of each node of a mesh, and the cells along its side
BLUR = 0.022  # radius; blurred ink above the threshold is ink, so a low threshold thickens the strokes
THRESHOLD, THRESHOLD_BOUND = 0.3, 0.13
RANDOM = 7 + 2 * (CELLS + 1) ** 2  # random numbers that a picture takes
NODES = np.stack(np.meshgrid(range(CELLS + 1), range(CELLS + 1)), axis=-1)


def glyphs(
  split: str = "train",
  *,
  size: int = 28,
  seed: int = 0,
  families: Sequence[str] | None = None,
  distortion: float = 1.0,
  cache: AnyPath | None = None,
) -> Source:
  """Draws the letters of one split's scripts, 24 distorted pictures of each, or reads them from the cache.

  A class is a letter; letters whose plain pictures are identical in a face that has both (Latin A, Greek Alpha,
  Cyrillic A) are one class, named after the first of them. The splits share no script, class or letter, and letters of
  a later split that look like one of an earlier split are left out. A picture is an affine map and a smooth warp of the
  letter, then thicker or thinner strokes, a pure function of (seed, code point, face, draw), size and distortion: the
  bytes depend on nothing else but the font files, the versions of Pillow and FreeType, and the machine's rounding.

  Args:
    split: "train", "validation", "test", or "all" for the three together.
    size: the side of a picture in pixels, 8 to 512.
    seed: of the distortions, 0 to 2^64 - 1; the letters do not depend on it.
    families: the typeface families to draw in, or None for all: "DejaVu Sans", "DejaVu Sans Mono", "DejaVu Serif",
      "STIX" and "Computer Modern". Letters that none of them has are left out; the others still have 24 pictures.
    distortion: its strength, 0 to 100. At 1, nearest centroid on pixels has 47% (5-way 1-shot, test), at 0, where all
      draws of a letter in a face are equal, 94%.
    cache: the folder of the cache; by default $METAJAX_CACHE, else the user's cache folder.

  Returns:
    A `Source` with images `[n, size, size, 1]`, ink at 255; `groups` holds scripts, `captions` the Unicode names of all
    letters of a class, `styles` the typeface family of each picture.

  Raises:
    ValueError: for an unknown split or family, families without a letter of the split, or a size, seed or distortion
      out of range.
    FileNotFoundError: if matplotlib's typefaces are not installed.
  """
  checks.choice("split", split, (*SPLITS, "all"))
  checks.count("size", size, 8, MOST_SIDE)
  checks.count("seed", seed, 0, 2**64 - 1)
  checks.in_range("distortion", distortion, 0, MOST_DISTORTION)
  if families is not None and (not isinstance(families, tuple | list) or not families or set(families) - set(FAMILIES)):
    raise ValueError(f"families: got {families!r}, expected None or a tuple of some of {FAMILIES}")
  files = _font_files()
  chosen = tuple(family for family in FAMILIES if families is None or family in families)
  settings = (split, chosen, int(size), int(seed), float(distortion))
  path = cache_folder(cache) / f"glyphs-{_digest(files, settings)}.npz"
  source = read(path)
  if source is None:
    source = _build(files, *settings)
    if not source.classes:
      raise ValueError(f"families: got {families!r}, none of which has a letter of the split {split!r}")
    write(path, source)
  return source


def _font_files():
  """The path of every face, by file name."""
  spec = importlib.util.find_spec("matplotlib")
  folder = pathlib.Path(spec.origin).parent / "mpl-data" / "fonts" / "ttf" if spec and spec.origin else None
  found = {name: folder / name for name in FACES} if folder else {}
  missing = [name for name in FACES if name not in found or not found[name].is_file()]
  if missing:
    raise FileNotFoundError(f"glyphs are drawn in the typefaces that matplotlib ships; {folder} lacks {missing}")
  return found


# Letters and classes. A letter is (code point, face); a class is a list of code points.


def _script(point):
  """(script, split) of a code point if it is a letter of one of the scripts, else None."""
  character = chr(point)
  # Modifier letters (Lm) and compatibility characters repeat other letters: smaller, raised, joined.
  if unicodedata.category(character) not in ("Lu", "Ll", "Lt", "Lo") or unicodedata.decomposition(character)[:1] == "<":
    return None
  name = unicodedata.name(character, "")
  return next((script for start, script in SCRIPTS.items() if name.startswith(start + " ")), None)


def _priority(point):
  return SPLITS.index(_script(point)[1]), point


def _letters(files):
  """The plain picture of every letter that has ink, cropped two pixels around it: {(code point, face): picture}."""
  letters = {}
  canvas = Image.new("L", (4 * EM, 4 * EM))
  for face, path in files.items():
    with TTFont(path, lazy=True) as font:
      points = sorted(point for point in font.getBestCmap() or () if _script(point))
    if FACES[face] == "Computer Modern":
      points = [point for point in points if point < 128]  # beyond ASCII its code points are not Unicode's
    # The basic layout, so that the pictures do not depend on whether libraqm is installed.
    font = ImageFont.truetype(path, EM, layout_engine=ImageFont.Layout.BASIC)
    for point in points:
      canvas.paste(0, (0, 0, *canvas.size))
      ImageDraw.Draw(canvas).text((2 * EM, 2 * EM), chr(point), fill=255, font=font, anchor="ms")
      box = canvas.getbbox()
      if box:
        letters[point, face] = canvas.crop((box[0] - 2, box[1] - 2, box[2] + 2, box[3] + 2))
  return letters


def _classes(letters):
  """Joins the letters that are identical in a face, drops those that look like an earlier split's; sorted lists."""
  first = {}  # the first letter seen with a face's picture
  joined = {point: [point] for point, _ in letters}
  for (point, face), picture in letters.items():
    other = first.setdefault((face, picture.size, picture.tobytes()), point)
    if joined[other] is not joined[point]:
      joined[other] += joined[point]
      joined.update(dict.fromkeys(joined[point], joined[other]))
  for points in joined.values():
    points.sort(key=_priority)
  near = _near_an_earlier_split(letters, {point: _priority(points[0])[0] for point, points in joined.items()})
  classes = {points[0]: points for points in joined.values() if near.isdisjoint(points)}
  return [classes[point] for point in sorted(classes, key=_priority)]


def _near_an_earlier_split(letters, splits):
  """The code points whose plain picture in some face nearly equals that of a letter of an earlier split."""
  near = set()
  for face in FACES:
    points = np.array([point for point, other in letters if other == face])
    split = np.array([splits[point] for point in points])
    if len(set(split)) < 2:
      continue
    pictures = [_draw(letters[point, face], 28, 0.0, np.zeros(RANDOM)).reshape(-1) for point in points]
    pictures = np.stack(pictures).astype(np.float64)  # sums of integers: exact, whatever the order
    ink = np.sum(pictures**2, axis=1)
    for later in range(1, len(SPLITS)):
      a, b = np.flatnonzero(split == later), np.flatnonzero(split < later)
      distance = ink[a, None] + ink[b] - 2 * pictures[a] @ pictures[b].T
      near.update(points[a[(distance < NEAR * np.maximum(ink[a, None], ink[b])).any(axis=1)]].tolist())
  return near


# Pictures.


def _random(seed, point, face, draw):
  """Uniform in [-1, 1), a pure function of its arguments: Philox's raw bits, which NumPy promises not to change."""
  key = np.array([seed, zlib.crc32(face.encode())], np.uint64)
  bits = np.random.Philox(key=key, counter=np.array([0, 0, point, draw], np.uint64)).random_raw(RANDOM)
  return (bits >> np.uint64(11)) * 2.0**-52 - 1.0


def _draw(letter, size, distortion, random):
  """One picture of a cropped plain letter, uint8 `[size, size]`; drawn at twice the size."""
  side = 2 * size
  angle, shear, scale, stretch, *shift, threshold = distortion * random[:7]
  fit = min(LETTER[0] * side / EM, LETTER[1] * side / (max(letter.size) - 4))
  zoom = fit * np.exp(SCALE * scale + STRETCH * stretch * np.array([1, -1]))
  cos, sin = math.cos(ROTATION * angle), math.sin(ROTATION * angle)
  # From the picture to the letter: turn, shear, scale.
  inverse = np.array([[cos, -sin], [sin, cos]]) @ np.array([[1, 0], [SHEAR * shear, 1]]) / zoom
  nodes = NODES * side // CELLS
  moved = nodes - side / 2 - side * (SHIFT * np.array(shift) + WARP * distortion * random[7:].reshape(nodes.shape))
  moved = moved @ inverse + np.array(letter.size) / 2
  boxes = np.concatenate([nodes[:-1, :-1], nodes[1:, 1:]], axis=-1).reshape(-1, 4)
  corners = np.concatenate([moved[:-1, :-1], moved[1:, :-1], moved[1:, 1:], moved[:-1, 1:]], axis=-1).reshape(-1, 8)
  mesh = list(zip(map(tuple, boxes.tolist()), corners.tolist(), strict=True))
  picture = letter.transform((side, side), Image.Transform.MESH, mesh, Image.Resampling.BILINEAR)
  if distortion:
    radius = BLUR * side * distortion
    middle = THRESHOLD + THRESHOLD_BOUND * threshold / max(1.0, distortion)
    steep = max(2 * radius, 0.5 / middle)  # paper stays 0
    table = np.clip(127.5 + steep * (np.arange(256) - 255 * middle), 0, 255).astype(int).tolist()
    picture = picture.filter(ImageFilter.GaussianBlur(radius)).point(table)
  return np.asarray(picture.reduce(2))


def _build(files, split, families, size, seed, distortion):
  letters = _letters(files)
  classes, images, labels, styles = [], [], [], []
  for points in _classes(letters):
    # In each face the first of the class's letters that the face has.
    faces = [face for face in FACES if FACES[face] in families and any((point, face) in letters for point in points)]
    if not faces or split not in ("all", _script(points[0])[1]):
      continue
    for picture in range(PICTURES):
      face, draw = faces[picture % len(faces)], picture // len(faces)
      point = next(point for point in points if (point, face) in letters)
      images.append(_draw(letters[point, face], size, distortion, _random(seed, point, face, draw)))
      labels.append(len(classes))
      styles.append(FACES[face])
    classes.append(points)
  captions = tuple(tuple(unicodedata.name(chr(point)) for point in points) for points in classes)
  return Source(
    images=np.array(images, np.uint8).reshape(-1, size, size, 1),
    labels=np.array(labels, np.int32),
    classes=tuple(names[0] for names in captions),
    groups=tuple(_script(points[0])[0] for points in classes),
    captions=captions,
    styles=tuple(styles),
  )


def _digest(files, settings):
  """Of everything that the pictures depend on: settings, versions, this file's text and the fonts."""
  versions = (PIL.__version__, features.version("freetype2"), unicodedata.unidata_version)
  digest = hashlib.sha256(repr((versions, SCRIPTS, settings)).encode())
  for path in (pathlib.Path(__file__), *files.values()):
    digest.update(path.read_bytes())
  return digest.hexdigest()[:20]
