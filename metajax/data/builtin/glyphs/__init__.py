"""Glyphs, the built-in data set: characters of many scripts, drawn in the typefaces that matplotlib ships."""

from metajax.data.builtin.glyphs.characters import FAMILIES, SPLITS
from metajax.data.builtin.glyphs.source import MOST_SIDE, glyphs

__all__ = ["FAMILIES", "MOST_SIDE", "SPLITS", "glyphs"]
