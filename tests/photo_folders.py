"""Folders of small images, as the README names them."""

from pathlib import Path

import numpy as np
from PIL import Image

FOLDERS = {"photos": (12, 7), "my_classes": (3, 2), "new_photos": (0, 3)}  # name: classes, images of each


def draw(folder: Path):
  """Writes `photos`, `my_classes` and `new_photos` into a folder."""
  for name, (classes, each) in FOLDERS.items():
    for kind in range(max(1, classes)):
      for i in range(each):
        path = folder / name / (f"class {kind}" if classes else "") / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(kind + i).integers(0, 256, (20, 24, 3), np.uint8)).save(path)
