"""Inner loops as values: an `Adapt` fine-tunes parameters on one task's data, differentiably."""

from metajax.adapt.implicit import implicit, newton
from metajax.adapt.parts import only, then, unchanged
from metajax.adapt.steps import Gradient, Remat, gradient_steps

__all__ = ["Gradient", "Remat", "gradient_steps", "implicit", "newton", "only", "then", "unchanged"]
