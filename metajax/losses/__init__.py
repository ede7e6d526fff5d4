"""Arrays in, a scalar out."""

from metajax.losses.classification import accuracy, check_fits, check_one_hot, cross_entropy, row_weights
from metajax.losses.regression import squared_error

__all__ = ["accuracy", "check_fits", "check_one_hot", "cross_entropy", "row_weights", "squared_error"]
