"""Images of any kind as the uint8 arrays that a model takes: files, folders, Pillow images and arrays."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from metajax import checks
from metajax.data.files.folder import image_names
from metajax.data.files.image_file import UnreadableImage, image_of, read_image
from metajax.data.files.lazy_images import in_threads
from metajax.export import ImageFormat
from metajax.export.images import background_of

CHANNELS = (1, 3, 4)
BATCH = 256  # images that are read together
INVERT = {"auto": None, "yes": True, "no": False}  # the flag of commands


def as_images(images: Any, form: ImageFormat, invert: bool = False) -> np.ndarray:
  """Converts images to the format of a model: upright, on white, resized to a square.

  Args:
    images: A path of an image file or a folder, an image of Pillow, an array `[height, width]`, `[height, width, c]` or
      `[n, height, width, c]` with 1, 3 or 4 channels (uint8, or floats in [0, 1]), or a sequence of these.
    form: Format of the images.
    invert: Whether to exchange dark and light.

  Returns:
    uint8 `[n, size, size, channels]`.

  Raises:
    ValueError: If an image cannot be read or has another shape or type; the message names it.
    FileNotFoundError: If a path does not exist.
  """
  found = list(each_image(images))
  if not found:
    raise ValueError("expected at least one image, got none")
  result, unreadable = read_images(found, form, invert)
  if unreadable:
    raise ValueError(unreadable_images(found, unreadable))
  return result


def read_images(images: list, form: ImageFormat, invert: bool = False) -> tuple[np.ndarray, dict[int, str]]:
  """Returns the images uint8 `[n, size, size, channels]`, and `{number: reason}` of the files that cannot be read."""
  return start_to_read(images, form, invert)()


def start_to_read(
  images: list, form: ImageFormat, invert: bool = False
) -> Callable[[], tuple[np.ndarray, dict[int, str]]]:
  """Starts to read images in threads; the returned function waits for them, and returns as `read_images`."""
  result, unreadable = np.zeros((len(images), form.size, form.size, form.channels), np.uint8), {}

  def fill(chunk):
    for i in range(len(images))[chunk]:
      try:
        result[i] = _image(images[i], form)
      except UnreadableImage as error:
        unreadable[i] = str(error)

  wait = in_threads(fill, len(images))

  def finish():
    wait()
    return 255 - result if invert else result, unreadable

  return finish


def read_ahead(
  images: Sequence[str], form: ImageFormat, invert: bool = False
) -> Iterator[tuple[Sequence[str], np.ndarray, dict[int, str]]]:
  """Yields 256 images at a time, as `(paths, images, unreadable)`; the next ones are decoded meanwhile."""
  batches = [images[i : i + BATCH] for i in range(0, len(images), BATCH)]
  following = start_to_read(list(batches[0]), form, invert) if batches else None
  for i, batch in enumerate(batches):
    assert following is not None
    found, unreadable = following()
    if i + 1 < len(batches):
      following = start_to_read(list(batches[i + 1]), form, invert)
    yield batch, found, unreadable


def unreadable_images(images: list, unreadable: dict[int, str]) -> str:
  """The message for images that cannot be read."""
  named = [f"{str(images[i])!r} ({unreadable[i]})" for i in sorted(unreadable)[: checks.SHOWN]]
  more = f" and {len(unreadable) - len(named)} more" if len(unreadable) > len(named) else ""
  return f"expected images that can be read, got {', '.join(named)}{more}"


def must_invert(images: np.ndarray, form: ImageFormat) -> bool:
  """Whether images uint8 have a plain background that is the opposite of the one that the model was trained on."""
  return {form.background, background_of(images / np.float32(255))} == {"dark", "light"}


def files_of(places: Iterable[Path | str]) -> list[str]:
  """The image files of files and folders, in the order given; a folder's are sorted, from all levels.

  Raises:
    FileNotFoundError: If a path does not exist.
    ValueError: If a folder holds no images, or a file is given twice.
  """
  found = []
  for place in places:
    place = os.path.expanduser(place)
    if not os.path.exists(place):
      raise FileNotFoundError(f"no such file or folder of images: {place!r}")
    found += [os.path.join(place, name) for name in image_names(place)] if os.path.isdir(place) else [place]
  if twice := checks.repeated(map(os.path.normpath, found)):
    raise ValueError(f"expected each image once, got {twice!r} twice")
  return found


def each_image(images: Any) -> Iterator[Any]:
  """Yields single images of paths, folders, arrays and sequences, as `as_images` takes them; files as their paths."""
  if isinstance(images, str | os.PathLike):
    yield from files_of([images])
  elif isinstance(images, Image.Image):
    yield images
  elif hasattr(images, "shape"):
    array = np.asarray(images)
    yield from array if array.ndim == 4 else [array]
  elif isinstance(images, Iterable):
    for image in images:
      yield from each_image(image)
  else:
    raise ValueError(f"expected paths, images of Pillow or arrays, got {checks.describe(images)}")


def _image(image: Any, form: ImageFormat) -> np.ndarray:
  if isinstance(image, str):
    return read_image(image, size=form.size, channels=form.channels, preprocessing=form.preprocessing)
  image = image if isinstance(image, Image.Image) else _of_array(image)
  return image_of(image, form.size, form.channels, form.preprocessing)


def _of_array(array: np.ndarray) -> Image.Image:
  fits = array.size and (array.ndim == 2 or (array.ndim == 3 and array.shape[-1] in CHANNELS))
  if fits and array.dtype.kind == "f" and array.min() >= 0 and array.max() <= 1:
    array = np.rint(array * np.float32(255)).astype(np.uint8)
  if not fits or array.dtype != np.uint8:
    given = f"{checks.describe(array)}" + (
      f" from {array.min():.3g} to {array.max():.3g}" if array.size and array.dtype.kind == "f" else ""
    )
    raise ValueError(
      f"expected an image [height, width] or [height, width, 1, 3 or 4], uint8 or floats in [0, 1], got {given}"
    )
  return Image.fromarray(array[..., 0] if array.shape[2:] == (1,) else array)
