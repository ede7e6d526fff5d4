"""What cannot be read is left out where so wished: known at the start, named, and never replaced by another image."""

import itertools
import os
import pathlib
import shutil

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from PIL import Image

from metajax.data import episode_rows, episodes, eval_batches, load, load_captioned, load_recordings
from metajax.data.files import lazy_images, user_images, verification
from metajax.data.tfds import classification

CLASSES, EACH = 8, 6


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
  """A cache of the test's own."""
  monkeypatch.setenv("METAJAX_CACHE", str(tmp_path / "cache"))
  return tmp_path / "cache"


@pytest.fixture
def in_files(monkeypatch):
  """Every set counts as too large for memory."""
  monkeypatch.setattr(user_images, "FILES_IN_MEMORY", 0)
  monkeypatch.setattr(lazy_images, "BYTES_IN_MEMORY", 0)


def write_folder(folder, classes=CLASSES, each=EACH):
  """Classes of images of which no two are alike: noise, with the image's number in a corner."""
  random = np.random.default_rng(0)
  for number in range(classes * each):
    pixels = random.integers(0, 256, (16, 16), np.uint8)
    pixels[:8, :8] = number
    path = folder / f"class {number // each}" / f"{number % each}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
  return folder


def truncate(path):
  path.write_bytes(path.read_bytes()[:200])


def numbers(inputs):
  """Which images these are, by their corners."""
  return np.asarray(inputs)[..., 0, 0, 0].astype(int)


@pytest.fixture
def folder(tmp_path):
  """Two of 48 images end too soon, of which a look at their beginnings does not tell."""
  folder = write_folder(tmp_path / "set")
  for path in ("class 1/2.png", "class 5/0.png"):
    truncate(folder / path)
  return folder


BROKEN = {1 * EACH + 2, 5 * EACH}


def test_an_image_that_ends_too_soon_is_in_no_task_and_no_task_has_an_image_twice(folder, in_files):
  source = load(folder, "official/all", size=16, skip_unreadable=True)
  assert isinstance(source.images, lazy_images.LazyImages) and len(source.images) == CLASSES * EACH - 2
  assert source.unreadable == ("'class 1/2.png'", "'class 5/0.png'")
  seen = set()
  for episode in itertools.islice(episodes(source, ways=4, shots=2, queries=3, meta_batch_size=8)(), 10):
    for support, query in zip(numbers(episode.support.inputs), numbers(episode.query.inputs), strict=True):
      assert len({*support, *query}) == 20
      seen |= {*support, *query}
  assert len(seen) == CLASSES * EACH - 2 and not seen & BROKEN


def test_every_image_that_can_be_read_is_counted_once_in_order(folder, in_files):
  source = load(folder, "official/all", size=16, skip_unreadable=True)
  seen = np.concatenate([numbers(batch.inputs) for batch in eval_batches(source, batch_size=7)()])
  assert seen.tolist() == sorted(set(range(CLASSES * EACH)) - BROKEN)


def test_sets_in_files_and_in_memory_leave_out_the_same_and_give_the_same_tasks(folder, monkeypatch):
  inside = load(folder, "official/all", size=16, skip_unreadable=True)
  monkeypatch.setattr(user_images, "FILES_IN_MEMORY", 0)
  outside = load(folder, "official/all", size=16, skip_unreadable=True)
  assert inside.unreadable == outside.unreadable
  np.testing.assert_array_equal(inside.images, outside.images[:])
  task = {"ways": 3, "shots": 1, "queries": 2}
  np.testing.assert_array_equal(episode_rows(inside, **task)(5), episode_rows(outside, **task)(5))


def test_what_was_read_to_its_end_is_remembered_until_it_changes(folder, in_files, cache, monkeypatch):
  read, opened = verification.read_image, []
  monkeypatch.setattr(
    verification, "read_image", lambda path, **how: (opened.append(os.path.basename(path)), read(path, **how))[1]
  )
  load(folder, "official/all", size=16, skip_unreadable=True)
  assert len(opened) == CLASSES * EACH and len(list(cache.glob("verified-*.npz"))) == 1
  opened.clear()
  load(folder, "official/all", size=16, skip_unreadable=True)
  assert sorted(opened) == ["0.png", "2.png"]  # what is broken is looked at again: it may have been mended
  truncate(folder / "class 3/4.png")
  source = load(folder, "official/all", size=16, skip_unreadable=True)
  assert len(source.unreadable) == 3 and "'class 3/4.png'" in source.unreadable
  (file,) = cache.glob("verified-*.npz")
  file.write_bytes(b"nothing")
  with pytest.warns(UserWarning, match="cannot be read and is rebuilt"):
    assert load(folder, "official/all", size=16, skip_unreadable=True).unreadable == source.unreadable


def test_an_interrupted_look_goes_on_where_it_was(folder, in_files, monkeypatch):
  read, opened = verification.read_image, []

  def stop_at_40(path, **how):
    opened.append(path)
    if len(opened) > 40:
      raise KeyboardInterrupt
    return read(path, **how)

  monkeypatch.setattr(verification, "read_image", stop_at_40)
  with pytest.raises(KeyboardInterrupt):
    load(folder, "official/all", size=16, skip_unreadable=True)
  done = len(opened)
  monkeypatch.setattr(verification, "read_image", lambda path, **how: (opened.append(path), read(path, **how))[1])
  load(folder, "official/all", size=16, skip_unreadable=True)
  assert len(opened) - done < CLASSES * EACH - 30


def test_an_image_that_changes_after_the_look_is_an_error_and_no_other_takes_its_place(folder, in_files):
  source = load(folder, "official/all", size=16, skip_unreadable=True)
  truncate(folder / "class 0/3.png")
  with pytest.raises(ValueError, match=r"class 0/3.png' cannot be read \(.*; it could be when the set was loaded"):
    source.images[3]


def test_how_far_a_long_look_is_is_said(folder, in_files, monkeypatch, capsys):
  monkeypatch.setattr(verification, "SECONDS", 0)
  load(folder, "official/all", size=16, skip_unreadable=True)
  assert f"verified 48 of 48 images of {str(folder)!r}, 0 minutes left" in capsys.readouterr().err


def test_captioned_images_in_files_are_left_out_as_well(folder, in_files):
  lines = [f"class {c}/{k}.png,number {c} {k}" for c in range(CLASSES) for k in range(EACH)]
  (folder / "captions.csv").write_text("\n".join(["path,caption", *lines]))
  with pytest.raises(ValueError, match="--skip-unreadable"):
    load_captioned(folder, "official/all", size=16).images[:]
  source = load_captioned(folder, "official/all", size=16, skip_unreadable=True)
  assert (
    source.unreadable == ("'class 1/2.png'", "'class 5/0.png'") and len(source.images) == len(source.captions) == 46
  )
  assert numbers(source.images[:]).tolist() == sorted(set(range(48)) - BROKEN)
  assert source.captions[8] == ("number 1 3",)


def test_the_number_of_images_is_that_of_the_whole_set_whichever_part_is_loaded(folder):
  for part in ("train", "validation", "test"):
    try:
      load(folder, part, size=16)
    except user_images.UnreadableImages as error:
      assert error.number == 48 and f"{len(error.files)} of 48 images of" in str(error)


def test_small_classes_are_left_out_before_classes_are_dealt_out_and_named(tmp_path):
  write_folder(tmp_path / "set")
  for path in [*(tmp_path / "set" / "class 2").glob("[1-5].png"), *(tmp_path / "set" / "class 6").glob("[3-5].png")]:
    path.unlink()
  with pytest.raises(ValueError, match="the smallest class, 'class 2'; got 1 \\+ 3 = 4"):
    episodes(load(tmp_path / "set", "official/all", size=4), ways=2, shots=1, queries=3, meta_batch_size=1)
  parts = [load(tmp_path / "set", part, size=4, min_images_per_class=4) for part in ("train", "validation", "test")]
  assert sorted(name for part in parts for name in part.classes) == [f"class {c}" for c in (0, 1, 3, 4, 5, 7)]
  assert all(part.small_classes == ("class 2", "class 6") for part in parts) and len(parts[1].classes) == 2
  whole = load(tmp_path / "set", "official/all", size=4, min_images_per_class=3)
  assert whole.small_classes == ("class 2",) and np.bincount(whole.labels).tolist() == [6, 6, 6, 6, 6, 3, 6]
  with pytest.raises(ValueError, match="of whose classes 8 have fewer than 7 images and are left out, has 0 classes"):
    load(tmp_path / "set", "train", size=4, min_images_per_class=7)


def test_a_class_that_is_too_small_without_its_broken_images_is_left_out_too(folder):
  source = load(folder, "official/all", size=4, skip_unreadable=True, min_images_per_class=EACH)
  assert source.small_classes == ("class 1", "class 5") and len(source.classes) == 6 and len(source.unreadable) == 2
  for c in range(CLASSES):
    truncate(folder / f"class {c}" / "2.png")
  with pytest.raises(ValueError, match="a class of at least 6 images, got 5 at most"):
    load(folder, "official/all", size=4, skip_unreadable=True, min_images_per_class=EACH)


# Records of TFDS.


def store(folder, name, features, examples, kind="tfrecord"):
  tfds.dataset_builders.store_as_tfds_dataset(
    name,
    version="1.0.0",
    features=tfds.features.FeaturesDict(features),
    split_datasets={"train": list(enumerate(examples))},
    data_dir=folder,
    file_format=kind,
  )


def break_records(folder, name, *which):
  """Makes some records' images into none, in place of files that were damaged before they were written."""
  (file,) = pathlib.Path(folder, name, "1.0.0").glob("*.tfrecord*")
  written = [record.numpy() for record in tf.data.TFRecordDataset(str(file))]
  with tf.io.TFRecordWriter(str(file)) as writer:
    for i, record in enumerate(written):
      writer.write(record.replace(b"PNG", b"PNC") if i in which else record)


PHOTO = tfds.features.Image(shape=(8, 8, 1), encoding_format="png")


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
  """`labeled`, `captioned` and `sounding`: two records of each hold no image."""
  folder = str(tmp_path_factory.mktemp("tfds"))
  tfds.disable_progress_bar()
  shown = lambda i: np.full((8, 8, 1), i, np.uint8)
  label = {"image": PHOTO, "label": tfds.features.ClassLabel(num_classes=7)}
  store(folder, "labeled", label, [{"image": shown(i), "label": i % 7} for i in range(21)])
  captions = {"image": PHOTO, "caption": tfds.features.Text()}
  store(folder, "captioned", captions, [{"image": shown(i), "caption": f"number {i}"} for i in range(12)])
  sounds = {"image": PHOTO, "sound": tfds.features.Tensor(shape=(10,), dtype=np.int16)}
  store(folder, "sounding", sounds, [{"image": shown(i), "sound": np.full(10, i, np.int16)} for i in range(6)])
  for name in ("labeled", "captioned", "sounding"):
    break_records(folder, name, 2, 5)
  return folder


@pytest.mark.parametrize("large", [False, True])
def test_records_without_an_image_are_left_out_and_named(sets, large, monkeypatch, cache):
  if large:
    monkeypatch.setattr(lazy_images, "BYTES_IN_MEMORY", 0)
  source = load("labeled", "official/train", size=8, data_dir=sets, skip_unreadable=True)
  assert len(source.unreadable) == 2 and all("record" in name and "labeled" in name for name in source.unreadable)
  assert len(source.labels) == 19 and len(source.classes) == 7
  tones = source.images[:][:, 0, 0, 0].tolist()
  assert len(set(tones)) == 19 and all(
    source.classes[c] == str(t % 7) for c, t in zip(source.labels, tones, strict=True)
  )
  source = load_captioned("captioned", "official/train", size=8, data_dir=sets, skip_unreadable=True)
  assert len(source.unreadable) == 2 and len(source.captions) == 10
  assert source.captions == tuple((f"number {tone}",) for tone in source.images[:][:, 0, 0, 0])
  if large:  # what was found is remembered
    monkeypatch.setattr(classification, "_unreadable", lambda *args: pytest.fail("the records were read again"))
    assert (
      load_captioned("captioned", "official/train", size=8, data_dir=sets, skip_unreadable=True).unreadable
      == source.unreadable
    )


def test_recordings_without_an_image_are_left_out_and_named(sets):
  with pytest.raises(ValueError, match=r"the records of 'sounding' cannot be read: .*--skip-unreadable"):
    load_recordings("sounding", "train", size=8, data_dir=sets)
  found = load_recordings("sounding", "train", size=8, data_dir=sets, skip_unreadable=True)
  assert len(found.unreadable) == 2 and all(name.startswith("sounding-train.tfrecord") for name in found.unreadable)
  np.testing.assert_array_equal(found.images[:, 0, 0, 0], found.sounds[:, 0])
  assert len(set(found.sounds[:, 0])) == 4


@pytest.mark.parametrize(("name", "loader"), [("labeled", load), ("captioned", load_captioned)])
def test_a_record_without_an_image_is_named_with_what_to_do(sets, name, loader):
  with pytest.raises(
    ValueError, match=rf"image of record \d+ of {name} cannot be decoded: .*--skip-unreadable"
  ) as raised:
    loader(name, "official/train", size=8, data_dir=sets)
  assert "\n" not in str(raised.value)


def test_a_set_of_nothing_but_broken_records_is_refused(sets, tmp_path):
  shutil.copytree(pathlib.Path(sets) / "labeled", tmp_path / "labeled")
  break_records(tmp_path, "labeled", *range(21))
  with pytest.raises(ValueError, match="an image that can be decoded in labeled, got 21 that cannot"):
    load("labeled", "official/train", size=8, data_dir=str(tmp_path), skip_unreadable=True)
