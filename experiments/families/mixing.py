"""Mixtures of sources for pretraining; all tests are on the first."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from experiments.families.data import slug, tell_left_out
from experiments.families.image_flags import ImageData, named_split
from metajax.data import ImageDataset, ImageTexts, Mixture, mixture
from metajax.experiment.terminal import printable
from metajax.experiment.weighted import weights_of

Source = TypeVar("Source", ImageDataset, ImageDataset | ImageTexts)


def mixed(
  flags: ImageData, mix: Sequence[str], first: Source, load_one: Callable[[ImageData], Source]
) -> Mixture | None:
  """The mixture of sources, and prints their sizes; None if there is one source alone.

  Args:
    flags: Flags that select the first source.
    mix: Values of `--mix`.
    first: Training images of the first source.
    load_one: Loads the training images of another.

  Raises:
    ValueError: if the weights are not as expected, or images differ in shape.
  """
  weights = weights_of(flags.data, mix)
  if not weights:
    return None
  others = {name: named_split(flags, "")._replace(data=name) for name in weights if name != flags.data}
  found = {flags.data: first} | {name: load_one(other) for name, other in others.items()}
  for name, source in found.items():
    height, width, channels = source.images.shape[1:]
    if source.images.shape[1:] != first.images.shape[1:]:
      wanted = "x".join(map(str, first.images.shape[1:]))
      given = f"{height}x{width}x{channels} of {name}"
      raise ValueError(f"expected images of one shape in a mixture, {wanted} as of {flags.data}, got {given}")
  total = sum(weights.values())
  shares = (f"{weights[name] / total:.1%} {printable(name)} ({len(one.images):,})" for name, one in found.items())
  print(f"mixture: {', '.join(shares)} images for training")
  for name, other in others.items():
    tell_left_out(other, found[name])
  return mixture(list(found.values()), [weights[name] for name in found])


def mixed_slug(flags: ImageData, mix: Sequence[str]) -> str:
  """The name of the data, with those that it is mixed with and their weights."""
  weights = weights_of(flags.data, mix)
  named = (f"{slug(flags._replace(data=name))}={weight:g}" for name, weight in weights.items())
  return "+".join(named) or slug(flags)
