"""One factory a file, named after its paper; each returns a `Learner`."""

from metajax.learners.anil import anil
from metajax.learners.inner_loop import Policy
from metajax.learners.maml import maml
from metajax.learners.prototypical import prototypical
from metajax.learners.r2d2 import r2d2
from metajax.learners.reptile import reptile
from metajax.learners.supervised import supervised

__all__ = ["Policy", "anil", "maml", "prototypical", "r2d2", "reptile", "supervised"]
