"""Labels that are invented: `pretext(key, pictures) -> Examples`, pure, on the device, of a whole batch."""

from metajax.pretexts.jigsaw import jigsaw, least_hamming_distance, permutations_apart
from metajax.pretexts.relative_patch import relative_patch
from metajax.pretexts.rotation import rotation
from metajax.pretexts.tiles import tiles

__all__ = ["jigsaw", "least_hamming_distance", "permutations_apart", "relative_patch", "rotation", "tiles"]
