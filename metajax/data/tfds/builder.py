"""Finds prepared TensorFlow Datasets (TFDS) without network access."""

from __future__ import annotations

import contextlib
import os
import re
import stat

import numpy as np

from metajax import checks
from metajax.data._tensorflow import tf, tfds
from metajax.data.files.opening import check_regular
from metajax.data.tfds.decoding import reason
from metajax.data.tfds.download import download_and_prepare
from metajax.paths import AnyPath, checked_url, is_url

KINDS_OF_FEATURES = "tensorflow_datasets."  # the only modules that a set's features may make TFDS import


def prepared(name: str, data_dir: AnyPath | None = None, download: bool = False) -> tfds.core.DatasetBuilder:
  """The TFDS builder of data set `name` (or "name/config"), in its newest version in the data folder.

  The folder is `data_dir`, else $TFDS_DATA_DIR, else ~/tensorflow_datasets. Prepared data are read as they are, whether
  or not TFDS has code for them, and without network access.

  Raises:
    FileNotFoundError: if the folder does not hold the set, and `download` is False.
    ValueError: if the prepared data are not as TFDS writes them; or `download` is True and TFDS has no such set.
    ConnectionError: if `download` is True and the host of the data set does not answer within a few seconds.
  """
  folder = _data_folder(data_dir)
  if not _versions(folder, name):
    holds = f"the data folder {folder} holds {', '.join(_sets(folder)) or 'no data sets'}"
    if not download:
      no_folder = "" if os.path.isdir(name) else f"there is no folder {name!r} here, and "
      raise FileNotFoundError(
        f"data set {name!r} not found: {no_folder}{holds}; set data_dir or TFDS_DATA_DIR to a folder that has it, "
        "or pass download=True (--download)"
      )
    return download_and_prepare(name, folder, holds)
  return _from_directory(os.path.join(folder, name, _versions(folder, name)[-1]))


def _from_directory(folder):
  _check_files(folder)
  try:
    for name in ("dataset_info.json", "features.json"):
      with tf.io.gfile.GFile(os.path.join(folder, name)) as file:
        said = checks.parse_json(name, file.read())
    _check_features(said)
    return tfds.builder_from_directory(folder)
  except tf.errors.OpError as error:
    raise ValueError(f"the data set in {folder!r} cannot be read: {reason(error)}") from None
  except Exception as error:  # TFDS and its parsers raise exceptions of all kinds on malformed files
    said = " ".join(str(error).split()) or type(error).__name__
    raise ValueError(f"the data set in {folder!r} is not as TFDS writes it: {said}") from None


def _check_files(folder):
  """Raises if a set holds irregular files: reading a FIFO would block forever."""
  if "://" in folder:
    return
  for name in os.listdir(folder):
    with contextlib.suppress(FileNotFoundError):  # a missing file is reported later, if it is needed
      if not stat.S_ISDIR(os.stat(os.path.join(folder, name)).st_mode):
        check_regular(os.path.join(folder, name))


def _check_features(said):
  """Raises if a feature's class is outside of TFDS, since TFDS would import, and so execute, its module."""
  waiting = [said]
  while waiting:
    value = waiting.pop()
    if isinstance(value, dict):
      waiting += value.values()
      for kind in (value.get(key) for key in ("type", "pythonClassName", "python_class_name")):
        if isinstance(kind, str) and "." in kind and not kind.startswith(KINDS_OF_FEATURES):
          raise ValueError(f"expected features of TFDS itself, got {kind!r}, which is never imported")
    elif isinstance(value, list):
      waiting += value


def is_prepared(name: str, data_dir: AnyPath | None = None) -> bool:
  """Whether the data folder holds the data set `name` (or "name/config")."""
  return bool(_versions(_data_folder(data_dir), name))


def _data_folder(data_dir):
  folder = os.path.expanduser(data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets")
  if not is_url(folder):
    return folder
  return checked_url("data_dir (or TFDS_DATA_DIR)", folder, tf.io.gfile.get_registered_schemes())


def _versions(folder, name):
  """The prepared versions of a data set, oldest first."""
  home = os.path.join(folder, name)
  found = [
    version
    for version in _listed(home)
    if re.fullmatch(r"\d+\.\d+\.\d+", version) and tf.io.gfile.exists(os.path.join(home, version, "features.json"))
  ]
  return sorted(found, key=lambda version: [int(part) for part in version.split(".")])


def _sets(folder):
  """The names of the data sets in a folder, with their configurations if any."""
  names = [
    [name] if _versions(folder, name) else [f"{name}/{config}" for config in _listed(os.path.join(folder, name))]
    for name in _listed(folder)
  ]
  return sorted(name for group in names for name in group if _versions(folder, name))


def _listed(folder):
  # `gfile` also reads buckets (gs://), and appends a slash to their folders.
  return [entry.rstrip("/") for entry in tf.io.gfile.listdir(folder)] if tf.io.gfile.isdir(folder) else []


def image_and_label(info: tfds.core.DatasetInfo) -> tuple[str, str]:
  """The names of a data set's image and class features: its supervised keys, or the only ones of their kinds.

  Raises:
    ValueError: if the set is not an image classification set of 8-bit images.
  """
  features = dict(info.features.items()) if hasattr(info.features, "items") else {}
  images = [k for k, feature in features.items() if isinstance(feature, tfds.features.Image)]
  labels = [k for k, feature in features.items() if isinstance(feature, tfds.features.ClassLabel)]
  keys = info.supervised_keys or (images + labels)
  if len(keys) != 2 or keys[0] not in images or keys[1] not in labels or features[keys[0]].np_dtype != np.uint8:
    raise ValueError(
      f"{info.name!r} is not an image classification set: expected one 8-bit Image and one ClassLabel, got features "
      f"{ {k: type(feature).__name__ for k, feature in features.items()} }"
    )
  return tuple(keys)
