"""Inner loops as values: an `Adapt` fine-tunes parameters on one task's data, differentiably."""

from metajax.adapt.combinators import chain, identity, only
from metajax.adapt.gradient_steps import Gradient, gradient_steps
from metajax.adapt.implicit import implicit, newton
from metajax.adapt.scan import Remat

__all__ = ["Gradient", "Remat", "chain", "gradient_steps", "identity", "implicit", "newton", "only"]
