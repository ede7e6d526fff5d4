"""One factory a file, named after its paper; each returns a `Learner`."""

from metajax.learners.maml import maml
from metajax.learners.prototypical import prototypical

__all__ = ["maml", "prototypical"]
