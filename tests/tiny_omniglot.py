"""A small prepared data set of Omniglot's schema: all of its characters, drawn here, by two drawers each."""

from importlib import resources

import numpy as np
import tensorflow_datasets as tfds

DRAWERS, SIDE = 2, 35  # Omniglot's own have 105
EVALUATION = (  # the other alphabets are Lake's background
  "Angelic", "Atemayar_Qelisayer", "Atlantean", "Aurek-Besh", "Avesta", "Ge_ez", "Glagolitic", "Gurmukhi", "Kannada",
  "Keble", "Malayalam", "Manipuri", "Mongolian", "Old_Church_Slavonic_(Cyrillic)", "Oriya", "Sylheti",
  "Syriac_(Serto)", "Tengwar", "Tibetan", "ULOG",
)  # fmt: skip


def alphabets() -> dict[str, int]:
  """How many characters each alphabet has, as the archive has it."""
  found: dict[str, int] = {}
  for line in resources.files("metajax.data.builtin").joinpath("omniglot_vinyals.txt").read_text().splitlines():
    if not line.startswith("#"):
      _, alphabet, _, last = line.split(" ")
      found[alphabet] = max(found.get(alphabet, 0), int(last))
  return dict(sorted(found.items()))


def drawn(character: int, drawer: int) -> np.ndarray:
  """Two black strokes on white, a little elsewhere for each drawer."""
  places = np.random.default_rng(character).integers(3, 23, (2, 2)) + np.random.default_rng(drawer).integers(0, 3, 2)
  image = np.full((SIDE, SIDE, 3), 255, np.uint8)
  for (row, column), (height, width) in zip(places, ((9, 3), (3, 9)), strict=True):
    image[row : row + height, column : column + width] = 0
  return image


def prepare(folder: str):
  """Writes `omniglot` into a folder of TFDS data."""
  counts, label = alphabets(), 0
  rows: dict[str, list] = {"train": [], "test": []}
  for number, (alphabet, characters) in enumerate(counts.items()):
    for character in range(characters):
      for drawer in range(DRAWERS):
        said = {"alphabet": number, "alphabet_char_id": character, "label": label, "image": drawn(label, drawer)}
        rows["test" if alphabet in EVALUATION else "train"].append(said)
      label += 1
  tfds.dataset_builders.store_as_tfds_dataset(
    "omniglot",
    version="3.0.0",
    features=tfds.features.FeaturesDict(
      {
        "image": tfds.features.Image(shape=(SIDE, SIDE, 3), encoding_format="png"),
        "alphabet": tfds.features.ClassLabel(names=list(counts)),
        "alphabet_char_id": tfds.features.Scalar(np.int64),
        "label": tfds.features.ClassLabel(num_classes=label),
      }
    ),
    split_datasets={split: list(enumerate(examples)) for split, examples in rows.items()},
    data_dir=folder,
  )
