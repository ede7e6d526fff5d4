"""A figure on disk, and how finely figures are drawn in tests."""

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(autouse=True)
def coarse(monkeypatch):
  """Imported by a test file, all its figures are drawn small."""
  monkeypatch.setattr("metajax.report.drawing.DOTS_PER_INCH", 80)


def opened(path) -> np.ndarray:
  """The pixels of a PNG file, 0 to 255."""
  with Image.open(path) as image:
    assert image.format == "PNG"
    return np.asarray(image.convert("RGB")).astype(int)
