"""The flags that select labeled images, and that distribute their classes over training, validation and test."""

from typing import Annotated, Any, Literal, NamedTuple

from metajax.data.load import is_own
from metajax.experiment.bounds import Bounds, Count, DataSource
from metajax.experiment.configuration import shown
from metajax.experiment.flags import dashed
from metajax.experiment.former_flags import also

DISTRIBUTION = ("split_classes", "test_classes", "train_on_all")
CropFrom = Literal["auto", "original", "resized"]
LARGE = 128  # pixels from which crops are cut from original files: most of these are larger
SEEN = "training classes, held-out images"  # the split of records without unseen classes


class ImageData(NamedTuple):
  """Data set of images."""

  data: DataSource = "glyphs"
  """Data set: glyphs, omniglot, a TFDS classification set, or a user-supplied folder, .csv or .npz file of images."""
  split: str = ""
  """Named split of the classes: lake, vinyals or finn for omniglot."""
  split_classes: Annotated[tuple[float, ...], Bounds(0, 1)] = ()
  """Shares of the classes for training, validation and test, such as 0.6 0.2 0.2; by default the data set decides."""
  test_classes: tuple[str, ...] = ()
  """Names of the test classes; a fifth of the other classes serves for validation, and the rest for training."""
  train_on_all: bool = False
  """Train on all classes of small data; validation and test use held-out images of these, so no class is unseen."""
  download: bool = False
  """Download TFDS data that is missing."""
  skip_unreadable: Annotated[bool, *also("--skip-broken")] = False
  """Skip user-supplied files that cannot be read, instead of stopping."""
  min_images_per_class: Count = 1
  """Minimum number of images per class; smaller classes are left out."""
  size: Annotated[int, Bounds(8, 4096)] = 28
  """Side in pixels that all images are resized to."""


def crops_originals(flags: ImageData, crop_from: CropFrom) -> bool:
  """Returns True if crops are cut from the original files, rather than from images squashed to a square."""
  if crop_from != "auto":
    return crop_from == "original"
  return flags.size >= LARGE and flags.data not in ("glyphs", "omniglot") and not flags.data.endswith(".npz")


def kept_by(flags: ImageData) -> dict[str, Any]:
  """Arguments of `load` that decide which images and classes are in which part.

  Raises:
    ValueError: if more than one flag distributes the classes.
  """
  named = ("split", "split_classes", "test_classes", "train_on_all")
  given = [f"--{dashed(name)}" for name in named if getattr(flags, name)]
  if len(given) > 1:
    raise ValueError(f"expected one of {', '.join(f'--{dashed(name)}' for name in named)}, got {' and '.join(given)}")
  how = {name: getattr(flags, name) for name in named[1:] if getattr(flags, name)}
  return {"skip_unreadable": flags.skip_unreadable, "min_images_per_class": flags.min_images_per_class, **how}


def refuse_distribution(flags: ImageData, data: str):
  """Refuses flags that distribute classes, where the data have other parts.

  Args:
    flags: Flags that select the data.
    data: Kind of the data, for the message.

  Raises:
    ValueError: naming the flag.
  """
  if is_distributed(flags):
    given = next(name for name in DISTRIBUTION if getattr(flags, name))
    value = shown(getattr(flags, given))
    raise ValueError(f"expected no --{dashed(given)} for {data}, whose parts are not made of classes, got {value}")


def is_distributed(flags: ImageData) -> bool:
  """Returns True if flags distribute the classes."""
  return any(getattr(flags, name) for name in DISTRIBUTION)


def is_user_supplied(flags: ImageData) -> bool:
  """Returns True if the data are a user-supplied folder, .csv or .npz file of images."""
  return is_own(flags.data, None, flags.download)


def named_split(flags: ImageData, split: str) -> ImageData:
  """The flags with a named split, or the default one for "", in place of theirs."""
  return flags._replace(split=split, split_classes=(), test_classes=(), train_on_all=False)


def seen(flags: ImageData) -> bool:
  """Returns True if the classes of validation and test are those of training."""
  return flags.train_on_all


def same_parts(flags: ImageData, other: ImageData) -> bool:
  """Returns True if the classes of two selections of data are distributed in the same way."""
  names = ("data", "split", "min_images_per_class", *DISTRIBUTION)
  return all(getattr(flags, name) == getattr(other, name) for name in names)


def rotates(flags: ImageData) -> bool:
  """Returns True if each quarter turn of a class counts as a separate class, as is customary on Omniglot."""
  return flags.data == "omniglot"


def split_name(flags: ImageData) -> str:
  """Name of the test split in the records."""
  if seen(flags):
    return SEEN
  how = ", named classes" * bool(flags.test_classes)
  how += f", shares {' '.join(f'{share:g}' for share in flags.split_classes)}" * bool(flags.split_classes)
  named = flags.split or ("lake" if flags.data == "omniglot" else "")
  return (f"{named}/test" if named else "test") + how
