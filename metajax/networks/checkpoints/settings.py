"""What arrays do not tell of a CLIP: by the configuration beside them, else a guess that is said."""

import os
from collections.abc import Mapping
from typing import Any, NamedTuple

from metajax import checks
from metajax.networks.checkpoints.files import read_config
from metajax.networks.checkpoints.preprocessing import of_hugging_face
from metajax.networks.linen.clip_towers import Towers
from metajax.networks.linen.transformer import CLIP, Details
from metajax.types import Pair, Preprocessing

HEAD = 64  # values of an attention head, in all of OpenAI's models
CONFIG, OPEN_CLIP = "config.json", "open_clip_config.json"
PROCESSOR, NESTED = "preprocessor_config.json", "processor_config.json"


class Settings(NamedTuple):
  """What arrays do not tell of a CLIP.

  Attributes:
    num_heads: the `Pair` of both towers' attention heads.
    details: activation and norms.
    preprocessing: of its images.
    scale: the shape of `logit_scale`.
    said: what of it is a guess, or is left to others.
  """

  num_heads: Pair
  details: Details
  preprocessing: Preprocessing
  scale: tuple[int, ...] = ()
  said: tuple[str, ...] = ()


def processor_of(folder: str) -> Preprocessing | None:
  """The preprocessing that Hugging Face's files in a folder say, where there are any."""
  nested = (read_config(folder, NESTED) or {}).get("image_processor")
  if isinstance(nested, dict):
    return of_hugging_face(nested, os.path.join(folder, NESTED))
  config = read_config(folder, PROCESSOR)
  return None if config is None else of_hugging_face(config, os.path.join(folder, PROCESSOR))


def guessed(folder: str, path: str, measured: Towers) -> Settings:
  """What OpenAI's models are, for weights without a configuration.

  Raises:
    ValueError: if they cannot have heads such as OpenAI's.
  """
  widths = Pair(measured.image.width, measured.text.width)
  if any(width % HEAD for width in widths):
    raise ValueError(
      f"expected {CONFIG} or {OPEN_CLIP} beside {path!r}, got neither, and the number of attention heads cannot be "
      f"guessed for widths of {widths.first} and {widths.second}"
    )
  num_heads = Pair(*(width // HEAD for width in widths))
  preprocessing, doubt = openai_unless(processor_of(folder), measured)
  said = (
    f"there is neither {CONFIG} nor {OPEN_CLIP} beside {path!r}: it is taken for one of OpenAI's models, with "
    f"{num_heads.first} and {num_heads.second} attention heads, {CLIP.activation} and norms' epsilon {CLIP.epsilon}"
  )
  return Settings(num_heads, CLIP, preprocessing, said=(said + "".join(f"; {each}" for each in doubt),))


def openai_unless(known: Preprocessing | None, measured: Towers) -> tuple[Preprocessing, tuple[str, ...]]:
  """A preprocessing that is known, or OpenAI's and what is to be said of that."""
  if known is not None:
    return known, ()
  how = Preprocessing(measured.pixels)
  return how, (
    f"without a {PROCESSOR} images are preprocessed as OpenAI's models': the shorter side to {how.pixels} pixels, "
    f"{how.interpolation}, mean {how.mean}, deviation {how.deviation}",
  )


def check_said(said: dict, measured: dict, section: str, where: str):
  """Refuses sizes of a configuration that the arrays do not have.

  Raises:
    ValueError: naming the first.
  """
  for name, size in measured.items():
    value = said.get(name, size)
    if value != size and value != [size, size]:
      full = f"{section}.{name}".removeprefix(".")
      raise ValueError(f"expected {full} to be {size} in {where!r}, as the arrays have it, got {value!r}")


def check_towers(image: dict, text: dict, measured: Towers, names: Mapping[str, str], where: str):
  """`check_said` of both towers, by the names that a configuration has.

  Args:
    image, text: what it says of each.
    measured: what the arrays tell.
    names: of "width" and "layers" of both, of the text's "length", and of the sections "image" and "text".
    where: the file's name.
  """
  width, num_layers = names["width"], names["layers"]
  of_image = {width: measured.image.width, num_layers: measured.image.num_layers}
  of_image |= {"image_size": measured.pixels, "patch_size": measured.patch}
  of_text = {width: measured.text.width, num_layers: measured.text.num_layers}
  of_text |= {"vocab_size": measured.vocab_size, names["length"]: measured.max_length}
  check_said(image, of_image, names["image"], where)
  check_said(text, of_text, names["text"], where)


def check_object(said: Any, name: str, where: str) -> dict:
  """Refuses a part of a configuration that is no object.

  Raises:
    ValueError: with what it is.
  """
  if not isinstance(said, dict):
    raise ValueError(f"expected {name} to be an object in {where!r}, got {checks.describe(said)}")
  return said


def only(found: set[Details], where: str) -> Details:
  """The details that both towers have.

  Raises:
    ValueError: if they differ.
  """
  if len(found) > 1:
    both = " and ".join(f"{each.activation} with epsilon {each.epsilon}" for each in sorted(found))
    raise ValueError(f"expected the same activation and norms in both towers in {where!r}, got {both}")
  return found.pop()
