"""Inner loops as values: an `Adapt` fine-tunes parameters on one task's data, differentiably."""

from metajax.adapt.combinators import only, then, unchanged
from metajax.adapt.gradient_steps import Gradient, gradient_steps
from metajax.adapt.implicit import implicit, newton
from metajax.adapt.scan import Remat

__all__ = ["Gradient", "Remat", "gradient_steps", "implicit", "newton", "only", "then", "unchanged"]
