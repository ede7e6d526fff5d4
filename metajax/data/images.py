"""The pictures of a prepared TensorFlow Datasets (TFDS) folder: found without the network, read once, decoded."""

import contextlib
import os
import re
import stat
import threading
import urllib.error
import urllib.request

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from metajax import checks
from metajax.data.files import check_regular

# Marks what datasets are mapped by: it is made of TensorFlow's operations alone, and AutoGraph need not rewrite it.
plain = tf.autograph.experimental.do_not_convert

KINDS_OF_FEATURES = "tensorflow_datasets."  # TFDS imports the module of a feature that a set names: no other is
SECONDS_TO_ANSWER = 5  # how long a download's host may take to answer before the network counts as absent


def prepared(name, data_dir=None, download=False):
  """The TFDS builder of data set `name` (or "name/config"), read from its newest version in the data folder.

  The folder is `data_dir`, else $TFDS_DATA_DIR, else ~/tensorflow_datasets. What is prepared there is read as it is,
  whether or not TFDS has code for it, and the network is never asked.

  Raises:
    FileNotFoundError: the folder does not hold the set, and `download` is False.
    ValueError: `download` is True, and TFDS has no data set of that name; or what is prepared is not as TFDS writes it.
    ConnectionError: `download` is True, and the host of the data set does not answer within some seconds.
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
    return _download(name, folder, holds)
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
  except Exception as error:  # TFDS and its parsers raise errors of all kinds where its files are not as it wrote them
    said = " ".join(str(error).split()) or type(error).__name__
    raise ValueError(f"the data set in {folder!r} is not as TFDS writes it: {said}") from None


def _check_files(folder):
  """Refuses a set with files that are none: one that is a FIFO would be waited for without end."""
  if "://" in folder:
    return
  for name in os.listdir(folder):
    with contextlib.suppress(FileNotFoundError):  # it is named later, where it is wanted
      if not stat.S_ISDIR(os.stat(os.path.join(folder, name)).st_mode):
        check_regular(os.path.join(folder, name))


def _check_features(said):
  """Refuses features of a module of someone's own, which TFDS would import, and so run."""
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


def is_prepared(name, data_dir=None):
  """Whether the data folder holds the data set `name` (or "name/config")."""
  return bool(_versions(_data_folder(data_dir), name))


def _data_folder(data_dir):
  folder = os.path.expanduser(data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets")
  scheme, there, _ = folder.partition("://")
  if there and scheme not in (served := tf.io.gfile.get_registered_schemes()):
    known = ", ".join(f"{one}://" for one in sorted(served) if one)
    raise ValueError(f"expected a data_dir (or TFDS_DATA_DIR) on a disk or of {known}, got {folder!r}")
  return folder


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
  """The names of the data sets that a folder holds, with their configurations where they have some."""
  names = [
    [name] if _versions(folder, name) else [f"{name}/{config}" for config in _listed(os.path.join(folder, name))]
    for name in _listed(folder)
  ]
  return sorted(name for group in names for name in group if _versions(folder, name))


def _listed(folder):
  # `gfile` reads buckets (gs://) too, and ends their folders with a slash.
  return [entry.rstrip("/") for entry in tf.io.gfile.listdir(folder)] if tf.io.gfile.isdir(folder) else []


def _download(name, folder, holds):
  """The TFDS builder of a data set after it has downloaded and prepared it in `folder`."""
  try:
    builder = tfds.builder(name, data_dir=folder)
  except tfds.core.DatasetNotFoundError:
    raise ValueError(f"unknown data set {name!r}: TFDS has no such set to download, and {holds}") from None
  # TFDS itself would go on trying for minutes where there is no network.
  address = next(iter(builder.url_infos or {}), None)
  if address and not _answers(address):
    raise ConnectionError(
      f"data set {name!r} cannot be downloaded: {address} does not answer; "
      f"without a network, set data_dir or TFDS_DATA_DIR to a folder that has it: {holds}"
    )
  builder.download_and_prepare(download_config=tfds.download.DownloadConfig(try_download_gcs=False))
  return builder


def _answers(address):
  """Whether the host of an address answers within SECONDS_TO_ANSWER, even if only to refuse."""
  answers = []

  def ask():
    try:
      urllib.request.urlopen(urllib.request.Request(address, method="HEAD"), timeout=SECONDS_TO_ANSWER).close()
      answers.append(address)
    except urllib.error.HTTPError as error:
      if error.code < 500:
        answers.append(address)
    except OSError:
      pass

  # A name server that hangs knows no time limit: the question goes to a thread that may be left behind.
  thread = threading.Thread(target=ask, daemon=True)
  thread.start()
  thread.join(SECONDS_TO_ANSWER)
  return bool(answers)


def image_and_label(info):
  """The names of a data set's picture and class features: its supervised keys, or the only ones of their kind.

  Raises:
    ValueError: the set is no image classification set of 8-bit pictures.
  """
  features = dict(info.features.items()) if hasattr(info.features, "items") else {}
  images = [k for k, feature in features.items() if isinstance(feature, tfds.features.Image)]
  labels = [k for k, feature in features.items() if isinstance(feature, tfds.features.ClassLabel)]
  keys = info.supervised_keys or (images + labels)
  if len(keys) != 2 or keys[0] not in images or keys[1] not in labels or features[keys[0]].np_dtype != np.uint8:
    raise ValueError(
      f"{info.name!r} is no image classification set: expected one 8-bit Image and one ClassLabel, got the features "
      f"{ {k: type(feature).__name__ for k, feature in features.items()} }"
    )
  return tuple(keys)


def read(builder, split, image, others):
  """The records of a split in the order of its files: `{feature: array [n]}`, the pictures still encoded.

  Args:
    builder: a TFDS builder of prepared data.
    split: the name of one of its splits, or of several joined by "+".
    image: the name of the feature that is a picture; its array holds the bytes of each file.
    others: the names of the other features to read.
  """
  config = tfds.ReadConfig(interleave_cycle_length=1, try_autocache=False)
  records = builder.as_dataset(split=split, decoders={image: tfds.decode.SkipDecoding()}, read_config=config)
  wanted = records.map(plain(lambda record: {key: record[key] for key in (image, *others)}))
  try:
    parts = list(wanted.batch(4096).as_numpy_iterator())
  except tf.errors.OpError as error:
    raise ValueError(f"the records of {builder.info.name!r} cannot be read: {reason(error)}") from None
  return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}


def decode(encoded, *, size, channels):
  """Encoded pictures as uint8 `[n, size, size, channels]`, 0 to 255, in the same order.

  Each new pixel is the mean over the area that it covers: thin strokes keep their ink, without ringing or blur.

  Raises:
    ValueError: one cannot be decoded, with its number.
  """

  picture = lambda file: decoded(file, size=size, channels=channels)
  pictures = tf.data.Dataset.from_tensor_slices(encoded).map(plain(picture), num_parallel_calls=tf.data.AUTOTUNE)
  try:
    return np.concatenate(list(pictures.batch(1024).as_numpy_iterator()))
  except tf.errors.OpError:
    number, why = next(iter(undecodable(encoded).items()))
    raise ValueError(
      f"picture {number} of {len(encoded)} cannot be decoded: {why}; "
      "pass skip_broken=True (--skip-broken) to leave it out"
    ) from None


def undecodable(encoded) -> dict[int, str]:
  """{number: why} of the encoded pictures that cannot be decoded."""
  broken = {}
  for number, file in enumerate(encoded):
    try:
      tf.io.decode_image(file, expand_animations=False)
    except tf.errors.OpError as error:
      broken[number] = reason(error)
  return broken


def decoded(file, *, size, channels):
  """One encoded picture, a string tensor, as `decode` has it."""
  pixels = tf.io.decode_image(file, channels=channels, expand_animations=False)
  return tf.cast(tf.round(tf.image.resize(pixels, (size, size), method="area")), tf.uint8)


def reason(error) -> str:
  """What a TensorFlow error says, without its nodes."""
  return re.sub(r"\{\{.*?\}\} | \[Op:.*", "", error.message.splitlines()[0])
