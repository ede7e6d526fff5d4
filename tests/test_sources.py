"""Sources: images and classes are what they say, parts share no class, and bad input fails at once in one line."""

import itertools
import os
import pathlib
import shutil
import socket
import time

import jax
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
import tiny_omniglot

from metajax.data import LazyImages, episodes, from_arrays, load, select_classes, train_batches, with_rotations
from metajax.data.files import lazy_images
from metajax.data.splits import PARTS
from metajax.data.tfds import download, random_access
from metajax.data.tfds.decoding import decode

tfds.disable_progress_bar()


def unpatchify(labels, side=12):
  """Images whose first two channels say which class they are of and which image of the set, in an even tone."""
  tones = np.stack([labels * 10, np.arange(len(labels)), labels * 0], axis=1).astype(np.uint8)
  return np.broadcast_to(tones[:, None, None], (len(labels), side, side, 3))


def examples_of(labels, features):
  other, values = ("image", unpatchify(labels)) if "image" in features else ("sound", np.zeros((len(labels), 4), "f"))
  return [{other: value, "label": label} for value, label in zip(values, labels, strict=True)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  """A data folder with small sets: `shared` has the same classes in training and test, `apart` has not."""
  folder = tmp_path_factory.mktemp("tfds")
  label = tfds.features.ClassLabel(names=[f"kind {i}" for i in range(20)])
  photo = {"image": tfds.features.Image(shape=(None, None, 3), encoding_format="png"), "label": label}
  sets = {
    "shared": (photo, {"train": np.repeat(np.arange(10), 6), "test": np.repeat(np.arange(10), 3)}),
    "apart": (photo, {"train": np.repeat(np.arange(15), 4), "test": np.repeat(np.arange(15, 20), 4)}),
    "unlabeled": (photo, {"train": np.repeat(np.arange(8), 4), "test": np.full(4, -1)}),
    "random_access": (photo, {"train": np.repeat(np.arange(10), 6), "test": np.repeat(np.arange(10), 3)}),
    "few": (photo, {"train": np.arange(5)}),
    "three": (photo, {"train": np.arange(10), "validation": np.arange(10, 14), "test": np.arange(14, 20)}),
    "sounds": ({"sound": tfds.features.Tensor(shape=(4,), dtype=np.float32), "label": label}, {"train": np.arange(5)}),
  }
  for name, (features, splits) in sets.items():
    rows = {split: list(enumerate(examples_of(labels, features))) for split, labels in splits.items()}
    store = tfds.dataset_builders.store_as_tfds_dataset
    kind = "array_record" if name == "random_access" else "tfrecord"
    features = tfds.features.FeaturesDict(features)
    store(name, version="1.0.0", features=features, split_datasets=rows, data_dir=folder, file_format=kind)
  return str(folder)


@pytest.fixture
def no_network(monkeypatch):
  """Any use of the network is an error of its own kind."""

  def refuse(*args, **kwargs):
    pytest.fail("the network was asked")

  for name in ("getaddrinfo", "create_connection"):
    monkeypatch.setattr(socket, name, refuse)


@pytest.fixture(scope="module")
def omniglot(tmp_path_factory):
  """A data folder with a set of Omniglot's schema."""
  folder = str(tmp_path_factory.mktemp("omniglot"))
  tiny_omniglot.prepare(folder)
  return folder


def names_match_images(source):
  return all(
    (image[..., 0] == 10 * int(source.classes[label].removeprefix("kind "))).all()
    for image, label in zip(source.images, source.labels, strict=True)
  )


def test_set_with_shared_classes_is_dealt_out_into_parts_that_share_none(folder, no_network):
  parts = {part: load("shared", part, size=8, data_dir=folder) for part in PARTS}
  assert [len(parts[part].classes) for part in PARTS] == [6, 2, 2]
  assert len({name for part in PARTS for name in parts[part].classes}) == 10
  for source in parts.values():
    assert source.images.shape == (9 * len(source.classes), 8, 8, 3) and source.images.dtype == np.uint8
    assert (np.bincount(source.labels) == 9).all() and names_match_images(source)
    assert len(np.unique(source.images[:, 0, 0, :2], axis=0)) >= 6 * len(source.classes)
  again = load("shared", "test", size=8, data_dir=folder)
  assert again.classes == parts["test"].classes and (again.images == parts["test"].images).all()
  assert any(load("shared", "test", size=8, data_dir=folder, seed=seed).classes != again.classes for seed in (1, 2, 3))


def test_disjoint_splits_stay_and_validation_classes_leave_training(folder, no_network):
  train, validation, test = (load("apart", part, size=8, data_dir=folder) for part in PARTS)
  assert test.classes == tuple(f"kind {i}" for i in range(15, 20))
  assert len(validation.classes) == 5 and len(train.classes) == 10
  assert not set(train.classes) & set(validation.classes)
  assert all(map(names_match_images, (train, validation, test)))


@pytest.mark.parametrize("name", ["shared", "random_access"])
def test_own_split_is_as_the_set_has_it(folder, name):
  source = load(name, "official/test", size=8, data_dir=folder)
  assert len(source.classes) == 10 and len(source.labels) == 30 and names_match_images(source)


@pytest.mark.parametrize("name", ["shared", "random_access"])
def test_large_set_is_read_from_its_record_files_with_the_same_bytes(folder, name, tmp_path, monkeypatch):
  inside = load(name, "train", size=8, data_dir=folder, rotations=True)
  monkeypatch.setattr(lazy_images, "BYTES_IN_MEMORY", 0)
  monkeypatch.setenv("METAJAX_CACHE", str(tmp_path))
  outside = load(name, "train", size=8, data_dir=folder, rotations=True)
  assert isinstance(inside.images, np.ndarray) and isinstance(outside.images, LazyImages)
  np.testing.assert_array_equal(outside.images[:], inside.images)
  assert outside.labels.tolist() == inside.labels.tolist() and outside.classes == inside.classes
  task = {"ways": 5, "shots": 1, "queries": 2, "meta_batch_size": 4}
  for batches in (lambda source: episodes(source, **task), lambda source: train_batches(source, batch_size=50)):
    expected = list(itertools.islice(batches(inside)(), 4))
    jax.tree.map(np.testing.assert_array_equal, list(itertools.islice(batches(outside)(), 4)), expected)
    jax.tree.map(np.testing.assert_array_equal, next(batches(outside)(start=3)), expected[3])


@pytest.mark.parametrize("name", ["shared", "random_access"])
def test_index_of_a_large_set_is_kept_until_its_files_change(folder, name, tmp_path, monkeypatch):
  monkeypatch.setattr(lazy_images, "BYTES_IN_MEMORY", 0)
  monkeypatch.setenv("METAJAX_CACHE", str(tmp_path / "cache"))
  shutil.copytree(pathlib.Path(folder) / name, tmp_path / name)
  source = load(name, "official/test", size=8, data_dir=str(tmp_path))
  with monkeypatch.context() as patch:
    patch.setattr(random_access, "_labels", lambda *args: pytest.fail("the files were read again"))
    again = load(name, "official/test", size=8, data_dir=str(tmp_path))
  assert len(list((tmp_path / "cache").iterdir())) == 1
  np.testing.assert_array_equal(again.images[:], source.images[:])
  (file,) = (tmp_path / name / "1.0.0").glob(f"*test.{'array_' if name == 'random_access' else 'tf'}record*")
  os.utime(file, ns=(0, 0))
  assert len(load(name, "official/test", size=8, data_dir=str(tmp_path)).images) == 30
  assert len(list((tmp_path / "cache").iterdir())) == 2


def test_order_of_a_set_is_that_of_its_files_whatever_their_format(folder):
  whole = tfds.builder_from_directory(f"{folder}/shared/1.0.0").as_dataset(split="test")
  for name in ("shared", "random_access"):
    np.testing.assert_array_equal(
      load(name, "official/test", size=12, data_dir=folder).images,
      [record["image"] for record in whole.as_numpy_iterator()],
    )


def test_record_that_holds_no_image_is_named(folder, tmp_path):
  shutil.copytree(pathlib.Path(folder) / "shared", tmp_path / "shared")
  (file,) = (tmp_path / "shared" / "1.0.0").glob("*test.tfrecord*")
  written = [record.numpy() for record in tf.data.TFRecordDataset(str(file))]
  written[4] = written[4].replace(b"PNG", b"PNC")
  with tf.io.TFRecordWriter(str(file)) as writer:
    for record in written:
      writer.write(record)
  with pytest.raises(ValueError, match="the image of record 4 of shared cannot be decoded: Unknown image") as raised:
    load("shared", "official/test", size=8, data_dir=str(tmp_path))
  assert "\n" not in str(raised.value)
  file.write_bytes(file.read_bytes()[:-100])
  with pytest.raises(ValueError, match=r"the record file '.*test.tfrecord.*' cannot be read: ") as raised:
    load("shared", "official/test", size=8, data_dir=str(tmp_path))
  assert "\n" not in str(raised.value)


def test_damaged_array_record_file_is_one_line(folder, tmp_path):
  shutil.copytree(pathlib.Path(folder) / "random_access", tmp_path / "random_access")
  (file,) = (tmp_path / "random_access" / "1.0.0").glob("*test.array_record*")
  content = bytearray(file.read_bytes())
  for damaged in (b"", content[:1000] + bytes(100) + content[1100:], content[: len(content) // 2]):
    file.write_bytes(damaged)
    with pytest.raises(ValueError, match=r"(of 'random_access' cannot be read|'random_access' is damaged): ") as raised:
      load("random_access", "official/test", size=8, data_dir=str(tmp_path))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", ["shared", "random_access"])
def test_record_file_that_is_gone_is_named(folder, name, tmp_path):
  shutil.copytree(pathlib.Path(folder) / name, tmp_path / name)
  (file,) = (tmp_path / name / "1.0.0").glob("*test.*record*")
  file.unlink()
  with pytest.raises(FileNotFoundError, match=f"the record file '{file}' is missing"):
    load(name, size=8, data_dir=str(tmp_path))


def test_images_without_a_label_are_left_out(folder):
  parts = [load("unlabeled", part, size=8, data_dir=folder) for part in PARTS]
  assert [len(part.classes) for part in parts] == [4, 2, 2] and all(map(names_match_images, parts))


def test_data_folder_is_the_environments_where_none_is_given(folder, monkeypatch):
  monkeypatch.setenv("TFDS_DATA_DIR", folder)
  assert len(load("shared", size=4).classes) == 6


def test_images_shrink_to_the_mean_of_what_each_new_pixel_covers():
  image = np.random.default_rng(0).integers(0, 256, (12, 12, 1)).astype(np.uint8)
  file = tf.io.encode_png(image).numpy()
  means = image.reshape(4, 3, 4, 3).mean(axis=(1, 3))
  (decoded,) = decode(np.array([file], object), size=4, channels=1)
  assert np.abs(decoded[..., 0] - means).max() <= 0.5 + 1e-3


@pytest.mark.parametrize(
  ("name", "split", "error", "said"),
  [
    (
      "absent",
      "train",
      FileNotFoundError,
      "'absent' not found: there is no folder 'absent' here, and the.*holds apart, few, random_access, shared, .*; set",
    ),
    (
      "shared",
      "dev",
      ValueError,
      "'dev' of shared: expected one of train, validation, test, official/train, official/test",
    ),
    ("shared", "official/validation", ValueError, "'official/validation' of shared"),
    ("unlabeled", "official/test", ValueError, "no labeled images"),
    ("few", "train", ValueError, "few has 5 classes: expected 6 or more"),
    ("sounds", "train", ValueError, "not an image classification set.*'sound': 'Tensor'"),
    ("omniglot", "lake", ValueError, "'lake' of omniglot: expected one of lake/train,"),
    ("omniglot", "lake/dev", ValueError, "'lake/dev' of omniglot"),
    ("omniglot", "train", FileNotFoundError, "'omniglot' not found.*TFDS_DATA_DIR.*--download"),
  ],
)
def test_bad_input_is_one_line_that_says_what_there_is(folder, no_network, name, split, error, said):
  began = time.monotonic()
  with pytest.raises(error, match=said) as raised:
    load(name, split, data_dir=folder)
  assert "\n" not in str(raised.value) and time.monotonic() - began < 10


def test_unknown_set_to_download_is_refused(folder, no_network):
  with pytest.raises(ValueError, match=r"unknown data set 'absent'.*holds apart, few"):
    load("absent", data_dir=folder, download=True)


class DrawnHere(tfds.core.GeneratorBasedBuilder):
  """A data set that TFDS knows how to make, without a download, at `url_infos` where a test sets them."""

  VERSION = tfds.core.Version("1.0.0")
  url_infos = None

  def _info(self):
    features = {"image": tfds.features.Image(shape=(12, 12, 3)), "label": tfds.features.ClassLabel(num_classes=6)}
    return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

  def _split_generators(self, dl_manager):
    return {"train": self._generate_examples()}

  def _generate_examples(self):
    for i, image in enumerate(unpatchify(np.arange(6))):
      yield i, {"image": image, "label": i}


def test_download_prepares_the_set_in_the_folder_for_the_next_time(tmp_path):
  made = load("drawn_here", "official/train", size=12, data_dir=str(tmp_path), download=True)
  read = load("drawn_here", "official/train", size=12, data_dir=str(tmp_path))
  np.testing.assert_array_equal(made.images, read.images)
  assert read.classes == tuple("012345")


def test_download_from_a_host_that_never_answers_fails_within_seconds(tmp_path, monkeypatch):
  with socket.create_server(("127.0.0.1", 0)) as silent:
    address = f"http://127.0.0.1:{silent.getsockname()[1]}/images.zip"
    monkeypatch.setattr(DrawnHere, "url_infos", {address: None})
    monkeypatch.setattr(download, "SECONDS_TO_ANSWER", 0.5)
    with pytest.raises(ConnectionError, match=f"{address} does not answer.*no data sets"):
      load("drawn_here", data_dir=str(tmp_path), download=True)


@pytest.mark.parametrize("name", ["omniglot", "cifar10"])
def test_download_without_a_network_fails_within_ten_seconds(name, tmp_path, monkeypatch):
  def unreachable(*args, **kwargs):
    raise socket.gaierror("no network")

  monkeypatch.setattr(socket, "getaddrinfo", unreachable)
  began = time.monotonic()
  with pytest.raises(ConnectionError, match=rf"'{name}' cannot be downloaded: http.* does not answer"):
    load(name, data_dir=str(tmp_path), download=True)
  assert time.monotonic() - began < 10


@pytest.mark.parametrize(("split", "counts"), [("vinyals", (1028, 172, 423)), ("finn", (1100, 100, 423))])
def test_omniglot_split_has_its_published_number_of_characters_and_shares_none(omniglot, split, counts):
  parts = [load("omniglot", f"{split}/{part}", size=4, data_dir=omniglot) for part in PARTS]
  assert tuple(len(part.classes) for part in parts) == counts
  assert all((np.bincount(part.labels) == tiny_omniglot.DRAWERS).all() for part in parts)
  assert len({name for part in parts for name in part.classes}) == 1623


def test_omniglot_lake_split_keeps_its_alphabets_apart(omniglot):
  train, validation, test = (load("omniglot", f"lake/{part}", size=28, data_dir=omniglot) for part in PARTS)
  assert (len(train.classes), len(validation.classes), len(test.classes)) == (964 - 64, 64, 659)
  assert not set(train.classes) & set(validation.classes) and not set(train.superclasses) & set(test.superclasses)
  assert len(set(train.superclasses)) == 30 and set(test.superclasses) == set(tiny_omniglot.EVALUATION)
  assert "Korean/character01" in train.classes + validation.classes and "Tibetan/character42" in test.classes
  for part in (train, validation, test):
    assert (np.bincount(part.labels) == tiny_omniglot.DRAWERS).all() and part.images.shape[1:] == (28, 28, 1)
    assert part.images.max() == 255 and part.images.mean() < 40  # thin ink on empty paper
    assert not any("character00" in name for name in part.classes)


def test_omniglot_images_of_a_class_are_of_the_character_that_its_name_says(omniglot):
  source = load("omniglot", "lake/validation", size=tiny_omniglot.SIDE, data_dir=omniglot)
  first, numbers = {}, tiny_omniglot.alphabets()
  for alphabet, characters in numbers.items():
    first[alphabet] = sum(numbers[name] for name in numbers if name < alphabet)
    assert characters > 1
  for name, label in zip(source.classes[:20], range(20), strict=True):
    alphabet, number = name.split("/character")
    expected = {
      (255 - tiny_omniglot.drawn(first[alphabet] + int(number) - 1, drawer)[..., :1]).tobytes()
      for drawer in range(tiny_omniglot.DRAWERS)
    }
    assert {image.tobytes() for image in source.images[source.labels == label]} == expected


def test_three_splits_that_share_no_class_are_the_parts_of_a_set(folder):
  parts = [load("three", part, size=8, data_dir=folder) for part in PARTS]
  assert [len(part.classes) for part in parts] == [10, 4, 6] and all(map(names_match_images, parts))
  assert len({name for part in parts for name in part.classes}) == 20


def small_source():
  labels = np.array([0, 1, 2, 0, 1, 2, 2])
  pixels = np.random.default_rng(0).integers(0, 256, (7, 3, 3, 1)).astype(np.uint8)
  return from_arrays(pixels, labels, classes=("a", "b", "c"), superclasses=("x", "x", "y"), styles=tuple("1234567"))


def test_selected_classes_keep_their_images_and_are_numbered_anew():
  source = small_source()
  chosen = select_classes(source, [2, 0])
  assert chosen.classes == ("c", "a") and chosen.superclasses == ("y", "x") and chosen.captions == (("c",), ("a",))
  assert chosen.labels.tolist() == [1, 0, 1, 0, 0] and chosen.styles == tuple("13467")
  np.testing.assert_array_equal(chosen.images, source.images[[0, 2, 3, 5, 6]])
  for indices in ([0, 0], [3], [-1], []):
    with pytest.raises(ValueError, match="unique indices from 0 to 2"):
      select_classes(source, indices)


def test_rotations_are_new_classes_and_four_quarter_turns_are_none():
  source = small_source()
  turned = with_rotations(source)
  assert turned.classes[3:6] == ("a rotated 90", "b rotated 90", "c rotated 90") and len(set(turned.classes)) == 12
  assert turned.captions[11] == ("c rotated 270",) and turned.superclasses[:4] == ("x", "x", "y", "x rotated 90")
  assert turned.labels.dtype == np.int32 and len(turned.styles) == len(turned.labels) == 28
  np.testing.assert_array_equal(turned.labels[21:], source.labels + 9)
  again = with_rotations(select_classes(turned, [9, 10, 11]))
  np.testing.assert_array_equal(again.images[7:14], source.images)
  with pytest.raises(ValueError, match="got 3 x 2"):
    with_rotations(source._replace(images=source.images[:, :, :2]))


@pytest.mark.parametrize(
  ("changed", "said"),
  [
    ({"images": np.zeros((2, 3, 3, 1))}, "got float64 \\[2, 3, 3, 1\\]"),
    ({"images": np.zeros((2, 3, 3), np.uint8)}, "got uint8 \\[2, 3, 3\\]"),
    ({"labels": [0]}, "expected 2 integer labels, got int64 \\[1\\]"),
    ({"labels": [0.0, 1.0]}, "got float64"),
    ({"labels": [0, 2], "classes": ("a", "b")}, "labels from 0 to 1, got 0 to 2"),
    ({"labels": [0, -1], "classes": ("a", "b")}, "got -1 to 0"),
    ({"labels": [0, 2]}, "got none of '1'"),
    ({"classes": ("a", "a")}, "2 classes \\(1 unique\\)"),
    ({"superclasses": ("x",)}, "1 superclasses"),
    ({"styles": ("x",)}, "1 styles"),
    ({"captions": (("a",), ())}, "got none for '1'"),
  ],
)
def test_arrays_that_do_not_match_are_refused(changed, said):
  with pytest.raises(ValueError, match=said):
    from_arrays(**{"images": np.zeros((2, 3, 3, 1), np.uint8), "labels": [0, 1], **changed})
