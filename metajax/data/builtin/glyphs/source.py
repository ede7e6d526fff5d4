"""The `ImageDataset` of glyphs: 24 images of each class over the typefaces, cached on disk."""

import hashlib
import pathlib
import unicodedata
from collections.abc import Sequence

import numpy as np
import PIL
from PIL import features

from metajax import checks
from metajax.data.builtin.cache import cache_folder, read, write
from metajax.data.builtin.glyphs import characters
from metajax.data.builtin.glyphs.characters import FACES, FAMILIES, SPLITS, font_files, plain_characters, script_of
from metajax.data.builtin.glyphs.classes import classes_of
from metajax.data.builtin.glyphs.images import draw_character, random_numbers
from metajax.data.source import ImageDataset
from metajax.paths import AnyPath

IMAGES = 24  # images per class, distributed over the faces that have it
MOST_SIDE, MOST_DISTORTION = 512, 100


def glyphs(
  split: str = "train",
  *,
  size: int = 28,
  seed: int = 0,
  families: Sequence[str] | None = None,
  distortion: float = 1.0,
  cache: AnyPath | None = None,
) -> ImageDataset:
  """Draws the characters of one split's scripts, 24 distorted images of each, or reads them from the cache.

  A class is a character; characters whose plain images are identical in a face that has both (Latin A, Greek Alpha,
  Cyrillic A) are one class, named after the first of them. The splits share no script, class or character, and
  characters of a later split that look like one of an earlier split are left out. An image is an affine map and a
  smooth warp of the character, then thicker or thinner strokes: a pure function of (seed, code point, face, draw),
  size and distortion. Its bytes depend otherwise only on the font files, the versions of Pillow and FreeType, and the
  machine's rounding.

  Args:
    split: "train", "validation", "test", or "all" for the three together.
    size: side of the images in pixels, 8 to 512.
    seed: seed of the distortions, 0 to 2^64 - 1; the set of characters does not depend on it.
    families: typeface families to draw in, or None for all: "DejaVu Sans", "DejaVu Sans Mono", "DejaVu Serif", "STIX"
      and "Computer Modern". Characters in none of them are left out; the others still have 24 images.
    distortion: strength of the distortion, 0 to 100. Nearest centroid on pixels has 47% at 1 (5-way 1-shot, test), and
      94% at 0, where all draws of a character in a face are equal.
    cache: folder of the cache; by default $METAJAX_CACHE, else the user's cache folder.

  Returns:
    An `ImageDataset` with images `[n, size, size, 1]`, ink at 255; `superclasses` holds scripts, `captions` the
    Unicode names of all characters of a class, `styles` the typeface family of each image.

  Raises:
    ValueError: if the split or a family is unknown, the families have no character of the split, or a size, seed or
      distortion is out of range.
    FileNotFoundError: if matplotlib's typefaces are not installed.
  """
  checks.choice("split", split, (*SPLITS, "all"))
  checks.count("size", size, 8, MOST_SIDE)
  checks.count("seed", seed, 0, 2**64 - 1)
  checks.in_range("distortion", distortion, 0, MOST_DISTORTION)
  if families is not None and (not isinstance(families, tuple | list) or not families or set(families) - set(FAMILIES)):
    raise ValueError(f"families: got {families!r}, expected None or a tuple of some of {FAMILIES}")
  files = font_files()
  chosen = tuple(family for family in FAMILIES if families is None or family in families)
  settings = (split, chosen, int(size), int(seed), float(distortion))
  path = cache_folder(cache) / f"glyphs-{_digest(files, settings)}.npz"
  source = read(path)
  if source is None:
    source = _build(files, *settings)
    if not source.classes:
      raise ValueError(f"families: got {families!r}, none of which has a character of the split {split!r}")
    write(path, source)
  return source


def _build(files, split, families, size, seed, distortion):
  plain = plain_characters(files)
  classes, images, labels, styles = [], [], [], []
  for points in classes_of(plain):
    # Each face draws the first of the class's characters that it has.
    faces = [face for face in FACES if FACES[face] in families and any((point, face) in plain for point in points)]
    if not faces or split not in ("all", script_of(points[0])[1]):
      continue
    for image in range(IMAGES):
      face, draw = faces[image % len(faces)], image // len(faces)
      point = next(point for point in points if (point, face) in plain)
      images.append(draw_character(plain[point, face], size, distortion, random_numbers(seed, point, face, draw)))
      labels.append(len(classes))
      styles.append(FACES[face])
    classes.append(points)
  captions = tuple(tuple(unicodedata.name(chr(point)) for point in points) for points in classes)
  return ImageDataset(
    images=np.array(images, np.uint8).reshape(-1, size, size, 1),
    labels=np.array(labels, np.int32),
    classes=tuple(names[0] for names in captions),
    superclasses=tuple(script_of(points[0])[0] for points in classes),
    captions=captions,
    styles=tuple(styles),
  )


def _digest(files, settings):
  """A digest of everything that the images depend on: settings, versions, this package's source, and the fonts."""
  versions = (PIL.__version__, features.version("freetype2"), unicodedata.unidata_version)
  digest = hashlib.sha256(repr((versions, characters.SCRIPTS, settings)).encode())
  for path in (*sorted(pathlib.Path(__file__).parent.glob("*.py")), *files.values()):
    digest.update(path.read_bytes())
  return digest.hexdigest()[:20]
