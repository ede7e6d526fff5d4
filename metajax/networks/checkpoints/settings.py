"""Settings of a CLIP that its arrays do not determine: from a configuration file, or guessed with a warning."""

import os
from collections.abc import Mapping
from typing import Any, NamedTuple

from metajax import checks
from metajax.networks.checkpoints.files import read_config
from metajax.networks.checkpoints.preprocessing import of_hugging_face
from metajax.networks.linen.clip_towers import Towers, attention_width
from metajax.networks.linen.transformer import CLIP, Details, Size
from metajax.types import Pair, Preprocessing

HEAD = 64  # width of an attention head in all of OpenAI's models
CONFIG, OPEN_CLIP = "config.json", "open_clip_config.json"
PROCESSOR, NESTED = "preprocessor_config.json", "processor_config.json"


class Settings(NamedTuple):
  """Settings of a CLIP that its arrays do not determine.

  Attributes:
    num_heads: `Pair` of the towers' numbers of attention heads.
    details: Activation and norms.
    preprocessing: Preprocessing of the images.
    scale: Shape of `logit_scale`.
    said: Warnings: guessed settings, and settings that the caller must handle.
  """

  num_heads: Pair
  details: Details
  preprocessing: Preprocessing
  scale: tuple[int, ...] = ()
  said: tuple[str, ...] = ()


def processor_of(folder: str) -> Preprocessing | None:
  """Reads the preprocessing from Hugging Face's files in a folder; None without such files."""
  nested = (read_config(folder, NESTED) or {}).get("image_processor")
  if isinstance(nested, dict):
    return of_hugging_face(nested, os.path.join(folder, NESTED))
  config = read_config(folder, PROCESSOR)
  return None if config is None else of_hugging_face(config, os.path.join(folder, PROCESSOR))


def guessed(folder: str, path: str, measured: Towers) -> Settings:
  """Returns the settings of OpenAI's models, for weights without a configuration.

  Raises:
    ValueError: if the widths are not divisible by the head width of OpenAI's models.
  """
  widths = Pair(attention_width(measured.image), measured.text.width)
  wanted, missing = f"{CONFIG} or {OPEN_CLIP}", f"neither {CONFIG} nor {OPEN_CLIP}"
  if not isinstance(measured.image, Size):  # Hugging Face has no CLIP with a residual network
    wanted, missing = OPEN_CLIP, f"no {OPEN_CLIP}"
  if any(width % HEAD for width in widths):
    raise ValueError(
      f"expected {wanted} next to {path!r}, got none, and the number of attention heads cannot be guessed for widths "
      f"of {widths.first} and {widths.second}"
    )
  num_heads = Pair(*(width // HEAD for width in widths))
  preprocessing, doubt = openai_unless(processor_of(folder), measured)
  said = (
    f"found {missing} next to {path!r}: assuming one of OpenAI's models, with {num_heads.first} and {num_heads.second} "
    f"attention heads, {CLIP.activation} and norms' epsilon {CLIP.epsilon}"
  )
  return Settings(num_heads, CLIP, preprocessing, said=(said + "".join(f"; {each}" for each in doubt),))


def openai_unless(known: Preprocessing | None, measured: Towers) -> tuple[Preprocessing, tuple[str, ...]]:
  """Returns a known preprocessing, or OpenAI's with a warning."""
  if known is not None:
    return known, ()
  preprocessing = Preprocessing(measured.pixels)
  return preprocessing, (
    f"without a {PROCESSOR} images are preprocessed as for OpenAI's models: the shorter side to "
    f"{preprocessing.pixels} pixels, {preprocessing.interpolation}, mean {preprocessing.mean}, deviation "
    f"{preprocessing.deviation}",
  )


def check_said(said: dict, measured: dict, section: str, where: str):
  """Checks the sizes in a configuration against the arrays.

  Raises:
    ValueError: if a size differs; the message names the first.
  """
  for name, size in measured.items():
    value = said.get(name, size)
    if value != size and value != [size, size]:
      full = f"{section}.{name}".removeprefix(".")
      raise ValueError(f"expected {full} to be {size} in {where!r}, as the arrays have it, got {value!r}")


def check_towers(image: dict, text: dict, measured: Towers, names: Mapping[str, str], where: str):
  """Checks the sizes of both towers in a configuration against the arrays.

  Args:
    image, text: Sections of the towers.
    measured: Sizes from the arrays' shapes.
    names: Names in the configuration of "width" and "layers" of both towers, of the text's "length", and of the
      sections "image" and "text".
    where: File name, for messages.
  """
  width, num_layers = names["width"], names["layers"]
  of_image = {width: measured.image.width, "image_size": measured.pixels}
  if isinstance(measured.image, Size):
    of_image |= {num_layers: measured.image.num_layers, "patch_size": measured.patch}
  else:
    of_image[num_layers] = list(measured.image.blocks)
  of_text = {width: measured.text.width, num_layers: measured.text.num_layers}
  of_text |= {"vocab_size": measured.vocab_size, names["length"]: measured.max_length}
  check_said(image, of_image, names["image"], where)
  check_said(text, of_text, names["text"], where)


def check_object(said: Any, name: str, where: str) -> dict:
  """Checks that a part of a configuration is a JSON object, and returns it.

  Raises:
    ValueError: if it is not an object.
  """
  if not isinstance(said, dict):
    raise ValueError(f"expected {name} to be an object in {where!r}, got {checks.describe(said)}")
  return said


def only(found: set[Details], where: str) -> Details:
  """Returns the details that both towers share.

  Raises:
    ValueError: if they differ.
  """
  if len(found) > 1:
    both = " and ".join(f"{each.activation} with epsilon {each.epsilon}" for each in sorted(found))
    raise ValueError(f"expected the same activation and norms in both towers in {where!r}, got {both}")
  return found.pop()
