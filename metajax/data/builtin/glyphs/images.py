"""Distorted images of plain characters: an affine map and a smooth warp, then thicker or thinner strokes."""

import math
import zlib

import numpy as np
from PIL import Image, ImageFilter

from metajax.data.builtin.glyphs.characters import EM

CHARACTER = (0.8, 0.74)  # the em, and the longest side of any character's ink, as fractions of an image's side

# Distortion at strength 1. Each amount is uniform within plus or minus its bound; lengths are fractions of the side.
ROTATION = math.radians(22)
SHEAR = 0.25
SCALE, STRETCH = 0.15, 0.15  # of log scales: both axes together, and one against the other
SHIFT = 0.085
WARP, CELLS = 0.035, 3  # displacement of each node of a mesh, and cells along its side
BLUR = 0.022  # radius; blurred ink above the threshold is ink, so a low threshold thickens the strokes
THRESHOLD, THRESHOLD_BOUND = 0.3, 0.13
RANDOM = 7 + 2 * (CELLS + 1) ** 2  # random numbers per image
NODES = np.stack(np.meshgrid(range(CELLS + 1), range(CELLS + 1)), axis=-1)


def random_numbers(seed: int, point: int, face: str, draw: int) -> np.ndarray:
  """Uniform numbers in [-1, 1), a pure function of the arguments: Philox's raw bits, which NumPy keeps stable."""
  key = np.array([seed, zlib.crc32(face.encode())], np.uint64)
  bits = np.random.Philox(key=key, counter=np.array([0, 0, point, draw], np.uint64)).random_raw(RANDOM)
  return (bits >> np.uint64(11)) * 2.0**-52 - 1.0


def draw_character(character: Image.Image, size: int, distortion: float, random: np.ndarray) -> np.ndarray:
  """Draws a distorted image of a cropped plain character, uint8 `[size, size]`, at twice the size and then reduced."""
  side = 2 * size
  angle, shear, scale, stretch, *shift, threshold = distortion * random[:7]
  fit = min(CHARACTER[0] * side / EM, CHARACTER[1] * side / (max(character.size) - 4))
  zoom = fit * np.exp(SCALE * scale + STRETCH * stretch * np.array([1, -1]))
  cos, sin = math.cos(ROTATION * angle), math.sin(ROTATION * angle)
  # From image to character coordinates: rotate, shear, scale.
  inverse = np.array([[cos, -sin], [sin, cos]]) @ np.array([[1, 0], [SHEAR * shear, 1]]) / zoom
  nodes = NODES * side // CELLS
  moved = nodes - side / 2 - side * (SHIFT * np.array(shift) + WARP * distortion * random[7:].reshape(nodes.shape))
  moved = moved @ inverse + np.array(character.size) / 2
  boxes = np.concatenate([nodes[:-1, :-1], nodes[1:, 1:]], axis=-1).reshape(-1, 4)
  corners = np.concatenate([moved[:-1, :-1], moved[1:, :-1], moved[1:, 1:], moved[:-1, 1:]], axis=-1).reshape(-1, 8)
  mesh = list(zip(map(tuple, boxes.tolist()), corners.tolist(), strict=True))
  image = character.transform((side, side), Image.Transform.MESH, mesh, Image.Resampling.BILINEAR)
  if distortion:
    radius = BLUR * side * distortion
    middle = THRESHOLD + THRESHOLD_BOUND * threshold / max(1.0, distortion)
    steep = max(2 * radius, 0.5 / middle)  # keeps the background at 0
    table = np.clip(127.5 + steep * (np.arange(256) - 255 * middle), 0, 255).astype(int).tolist()
    image = image.filter(ImageFilter.GaussianBlur(radius)).point(table)
  return np.asarray(image.reduce(2))
