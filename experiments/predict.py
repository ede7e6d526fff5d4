"""Labels images with a trained run, from a few labeled examples: the command `metajax predict`.

python -m experiments.predict runs/prototypical-glyphs-20261124-101500 --support my_classes --images new_photos
"""

from metajax.cli.predict import predict as main
from metajax.experiment import command

if __name__ == "__main__":
  command(main, on_hosts=False)
