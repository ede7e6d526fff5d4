"""One's own images: folders, CSV files and archives are read as they are, and what is wrong is one line at once."""

import csv
import itertools
import os
import shutil
import subprocess
import sys
import threading

import jax
import numpy as np
import pytest
from PIL import Image

from metajax.data import LazyImages, episode_rows, episodes, load, select_classes, train_batches, with_rotations
from metajax.data.files import lazy_images, user_images

PARTS = ("train", "validation", "test")


def save(path, pixels, **options):
  path.parent.mkdir(parents=True, exist_ok=True)
  Image.fromarray(np.asarray(pixels, np.uint8)).save(path, **options)


def tone(number, side=6):
  return np.full((side, side), number, np.uint8)


@pytest.fixture
def folder(tmp_path):
  """Ten classes of two alphabets, four images each; an image's tone is 20 times its class plus its number."""
  for c in range(10):
    for k in range(4):
      save(tmp_path / "set" / f"alphabet {c // 5}" / f"character {c}" / f"{k}.png", tone(20 * c + k))
  return tmp_path / "set"


@pytest.fixture
def as_files(monkeypatch, tmp_path):
  """Every set counts as large."""
  monkeypatch.setenv("METAJAX_CACHE", str(tmp_path / "cache"))
  monkeypatch.setattr(lazy_images, "BYTES_IN_MEMORY", 0)


def break_three(folder):
  """An empty file, a text, and half an image, of three classes."""
  unreadable = [folder / f"alphabet 0/character {c}/1.png" for c in range(3)]
  noise = np.random.default_rng(0).integers(0, 256, (40, 40))
  save(unreadable[2], noise)
  for path, content in zip(unreadable, (b"", b"a text\n" * 9, unreadable[2].read_bytes()[:700]), strict=True):
    path.write_bytes(content)
  return unreadable


def first(batches, count, **where):
  return list(itertools.islice(batches(**where), count))


def assert_equal(left, right):
  jax.tree.map(np.testing.assert_array_equal, left, right)


def only_image(folder, size=2, **options):
  """The first class's image of a folder of one-image classes."""
  return load(folder, "official/all", size=size, **options).images[0]


# What a folder says.


def test_class_is_the_folder_of_its_images_and_group_the_folder_above(folder):
  source = load(str(folder), "official/all", size=3)
  assert source.classes == tuple(f"alphabet {c // 5}/character {c}" for c in range(10))
  assert source.superclasses == ("alphabet 0",) * 5 + ("alphabet 1",) * 5 and source.captions[3] == (
    "alphabet 0/character 3",
  )
  assert source.images.shape == (40, 3, 3, 1) and source.unreadable == () and set(source.styles) == {""}
  np.testing.assert_array_equal(source.images[:, 0, 0, 0], [20 * c + k for c in range(10) for k in range(4)])
  np.testing.assert_array_equal(source.labels, np.repeat(np.arange(10), 4))


def test_classes_of_a_folder_are_dealt_out_into_parts_that_share_none(folder):
  parts = [load(folder, part, size=2) for part in PARTS]
  assert [len(part.classes) for part in parts] == [6, 2, 2]
  assert len({name for part in parts for name in part.classes}) == 10
  assert load(folder, "test", size=2).classes == parts[2].classes
  assert any(load(folder, "test", size=2, seed=seed).classes != parts[2].classes for seed in (1, 2, 3))


def test_disjoint_folders_train_and_test_are_the_splits(tmp_path):
  for part, classes in (("train", range(12)), ("val", range(12, 14)), ("test", range(14, 17))):
    for c in classes:
      save(tmp_path / part / f"kind {c:02d}" / "0.png", tone(c))
  parts = [load(tmp_path, part, size=2) for part in PARTS]
  assert [len(part.classes) for part in parts] == [12, 2, 3] and parts[1].classes == ("kind 12", "kind 13")
  assert load(tmp_path, "official/validation", size=2).classes == parts[1].classes
  assert len(load(tmp_path, "official/all", size=2).classes) == 17


def test_folders_train_and_test_of_the_same_classes_are_dealt_out_together(tmp_path):
  for part, number in (("train", 3), ("test", 2)):
    for c in range(8):
      for k in range(number):
        save(tmp_path / part / f"kind {c}" / f"{k}.png", tone(c))
  parts = [load(tmp_path, part, size=2) for part in PARTS]
  assert [len(part.classes) for part in parts] == [4, 2, 2] and (np.bincount(parts[0].labels) == 5).all()
  assert len(load(tmp_path, "official/test", size=2).labels) == 16


def test_classes_that_are_only_named_like_splits_are_classes(tmp_path):
  for name in ("train", "test", "plane"):
    save(tmp_path / name / "0.png", tone(0))
  assert load(tmp_path, "official/all", size=2).classes == ("plane", "test", "train")


def test_hidden_files_other_files_and_loops_of_links_are_passed_over(folder):
  source = load(folder, "official/all", size=2)
  for name in ("notes.txt", "labels.json", "table.csv", "Thumbs.db", ".DS_Store", ".hidden.png", "README.md", "x.pdf"):
    (folder / "alphabet 0" / "character 0" / name).write_bytes(b"x")
  save(folder / ".cache" / "kind" / "0.png", tone(0))
  os.symlink(folder, folder / "alphabet 1" / "again")
  os.symlink(folder / "itself", folder / "itself")
  assert_equal(load(folder, "official/all", size=2)._asdict(), source._asdict())


def test_links_to_images_and_to_folders_are_followed(folder, tmp_path):
  linked = tmp_path / "linked"
  linked.mkdir()
  os.symlink(folder / "alphabet 0", linked / "alphabet 0")
  (linked / "more").mkdir()
  os.symlink(folder / "alphabet 1/character 9/0.png", linked / "more" / "0.png")
  source = load(linked, "official/all", size=2)
  assert len(source.labels) == 21 and source.classes[-1] == "more" and source.images[-1].max() == 180


def test_order_of_images_does_not_depend_on_the_order_of_the_file_system(folder, monkeypatch):
  source, scandir = load(folder, "train", size=2), os.scandir

  class Backwards(list):
    __enter__, __exit__ = lambda self: self, lambda self, *args: None

  monkeypatch.setattr(os, "scandir", lambda path: Backwards(sorted(scandir(path), key=lambda e: e.name)[::-1]))
  assert_equal(load(folder, "train", size=2)._asdict(), source._asdict())


def test_bare_name_of_a_folder_here_is_that_folder(folder, monkeypatch):
  monkeypatch.chdir(folder.parent)
  assert len(load("set", "official/all", size=2).classes) == 10
  with pytest.raises(FileNotFoundError, match="'sets' not found: there is no folder 'sets' here, and the data folder"):
    load("sets", data_dir=str(folder))


# What an image looks like.


@pytest.mark.parametrize("ending", ["png", "jpg", "JPEG", "webp", "gif", "bmp", "tiff", "ppm", "tga", "jp2", "avif"])
def test_every_usual_format_is_read(tmp_path, ending, monkeypatch):
  for name in "ab":
    options = {"quality": 95} if ending.lower() in ("jpg", "jpeg") else {"lossless": True} if ending == "webp" else {}
    save(tmp_path / name / f"0.{ending}", tone(100), **options)
  assert (np.abs(only_image(tmp_path).astype(int) - 100) <= 1).all()
  monkeypatch.setattr(user_images, "FILES_IN_MEMORY", 0)
  assert (np.abs(only_image(tmp_path).astype(int) - 100) <= 1).all()


@pytest.mark.parametrize(
  ("mode", "pixels", "channels", "expected"),
  [
    ("1", np.array([[0, 255]] * 2, bool), 1, [0, 255]),
    ("L", np.array([[7, 200]] * 2, np.uint8), 1, [7, 200]),
    ("I;16", np.array([[257 * 7, 65535]] * 2, np.uint16), 1, [7, 255]),
    ("LA", np.array([[[7, 255], [7, 0]]] * 2, np.uint8), 1, [7, 255]),
    ("RGB", np.array([[[1, 2, 3], [4, 5, 6]]] * 2, np.uint8), 3, [[1, 2, 3], [4, 5, 6]]),
    ("RGBA", np.array([[[1, 2, 3, 255], [4, 5, 6, 0]]] * 2, np.uint8), 3, [[1, 2, 3], [255] * 3]),
  ],
)
def test_channels_and_transparency_and_depth_are_converted(tmp_path, mode, pixels, channels, expected):
  for name in "ab":
    (tmp_path / name).mkdir()
    image = Image.fromarray(pixels)
    assert image.mode == mode
    image.save(tmp_path / name / "0.png")
  image = only_image(tmp_path)
  assert image.shape == (2, 2, channels)
  np.testing.assert_array_equal(image[0].squeeze(), expected)


def test_palettes_and_cmyk_become_the_colors_that_they_mean(tmp_path):
  colors = np.array([[[255, 0, 0], [0, 0, 255]]] * 2, np.uint8)
  for name, mode, ending in (("a", "P", "png"), ("b", "CMYK", "tiff")):
    (tmp_path / name).mkdir()
    Image.fromarray(colors).convert(mode).save(tmp_path / name / f"0.{ending}")
  source = load(tmp_path, "official/all", size=2)
  np.testing.assert_array_equal(source.images, [colors, colors])


def test_transparent_palette_lies_on_white_and_first_frame_counts(tmp_path):
  for name in "ab":
    (tmp_path / name).mkdir()
    frames = [Image.fromarray(tone(number, 2)) for number in (0, 100)]
    frames[0].save(tmp_path / name / "0.gif", save_all=True, append_images=frames[1:], transparency=0)
  assert (only_image(tmp_path) == 255).all()


def test_photograph_is_turned_upright_as_its_exif_says(tmp_path):
  for name in "ab":
    exif = Image.Exif()
    exif[0x0112] = 6  # the top is on the right: turn by 90 degrees clockwise
    save(tmp_path / name / "0.png", [[10, 20], [30, 40]], exif=exif)
  np.testing.assert_array_equal(only_image(tmp_path)[..., 0], [[30, 10], [40, 20]])


def test_gray_images_among_colored_ones_have_three_channels_in_every_part(folder):
  save(folder / "alphabet 0" / "character 3" / "0.png", np.full((6, 6, 3), (9, 8, 7)))
  assert {load(folder, part, size=2).images.shape[-1] for part in PARTS} == {3}


def test_images_shrink_to_the_mean_of_what_a_pixel_covers_and_are_squashed_to_a_square(tmp_path):
  pixels = np.random.default_rng(0).integers(0, 256, (12, 24)).astype(np.uint8)
  for name in "ab":
    save(tmp_path / name / "0.png", pixels)
  means = pixels.reshape(4, 3, 4, 6).mean(axis=(1, 3))
  assert np.abs(only_image(tmp_path, size=4)[..., 0] - means).max() <= 1


def test_large_photographs_shrink_to_the_mean_as_well(tmp_path):
  pixels = np.asarray(
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 8)).astype(np.uint8)).resize((512,) * 2)
  )
  for name in "ab":
    save(tmp_path / name / "0.jpg", pixels, quality=98)
  means = pixels.reshape(8, 64, 8, 64).mean(axis=(1, 3))
  assert np.abs(only_image(tmp_path, size=8)[..., 0] - means).max() <= 2


def test_small_images_grow_smoothly_along_one_axis_too(tmp_path):
  for name in "ab":
    save(tmp_path / name / "0.png", [[0, 100, 0, 100]])
  np.testing.assert_array_equal(only_image(tmp_path)[..., 0], [[50, 50], [50, 50]])


def test_home_and_relative_folders_are_paths(folder, monkeypatch):
  monkeypatch.setenv("HOME", str(folder.parent))
  monkeypatch.chdir(folder / "alphabet 0")
  for name in ("~/set", "..", "../", "../../set"):
    assert len(load(name, "official/all", size=2).classes) == 10
  assert len(load(".", "official/all", size=2).classes) == 5


def test_rotations_are_four_times_the_classes(folder):
  assert len(load(folder, "official/all", size=2, rotations=True).classes) == 40


# What is wrong.


@pytest.mark.parametrize("lazy", [False, True])
def test_broken_images_are_named_and_refused(folder, lazy, monkeypatch):
  break_three(folder)
  if lazy:
    monkeypatch.setattr(user_images, "FILES_IN_MEMORY", 10)
  with pytest.raises(ValueError, match=f"{2 if lazy else 3} of 40 images of .*--skip-unreadable") as raised:
    load(folder, "official/all", size=2)
  said = str(raised.value)
  assert "'alphabet 0/character 0/1.png' (empty file)" in said and "\n" not in said
  assert "'alphabet 0/character 1/1.png' (not an image of a format that is read)" in said
  assert lazy or "'alphabet 0/character 2/1.png' (" in said


def test_at_most_five_broken_images_are_named_of_all_that_are_counted(folder):
  for path in sorted(folder.glob("*/*/0.png"))[:8]:
    path.write_bytes(b"")
  with pytest.raises(ValueError, match=r"8 of 40 images.* and 3 more; ") as raised:
    load(folder, "official/all", size=2)
  assert str(raised.value).count("empty file") == 5


def test_broken_images_are_left_out_and_named_where_so_wished(folder):
  break_three(folder)
  for path in folder.glob("alphabet 1/character 9/*.png"):
    path.write_bytes(b"x")
  source = load(folder, "official/all", size=2, skip_unreadable=True)
  assert len(source.unreadable) == 7 and source.unreadable[2] == "'alphabet 0/character 2/1.png'"
  assert source.classes == tuple(f"alphabet {c // 5}/character {c}" for c in range(9))
  assert np.bincount(source.labels).tolist() == [3, 3, 3, 4, 4, 4, 4, 4, 4]
  assert select_classes(source, [0, 1]).unreadable == with_rotations(source).unreadable == source.unreadable


def test_truncated_jpeg_is_broken(folder):
  path = folder / "alphabet 0" / "character 0" / "x.jpg"
  save(path, np.random.default_rng(0).integers(0, 256, (40, 40)))
  path.write_bytes(path.read_bytes()[:-300])
  with pytest.raises(ValueError, match=r"1 of 41 images.*x.jpg.*truncated"):
    load(folder, "official/all", size=2)


def test_file_whose_reader_runs_out_of_files_is_not_called_broken(folder, monkeypatch):
  def refuse(*args, **kwargs):
    raise OSError(24, "Too many open files")

  monkeypatch.setattr("builtins.open", refuse)
  with pytest.raises(OSError, match="Too many open files"):
    load(folder, "official/all", size=2, skip_unreadable=True)


def wrong_folder(path, wrong):
  """Makes a folder that is wrong in one way; returns what to load."""
  if wrong == "absent":
    return path / "absent"
  if wrong == "file":
    (path / "file").write_bytes(b"")
    return path / "file"
  for name in {"one": "a", "few": "abcde", "no classes": "ab"}.get(wrong, ""):
    save(path / name / "0.png", tone(0))
  if wrong == "no classes":
    save(path / "0.png", tone(0))
  return path


@pytest.mark.parametrize(
  ("wrong", "split", "error", "said"),
  [
    ("absent", "train", FileNotFoundError, "cannot read the folder '.*absent': No such file"),
    ("file", "train", NotADirectoryError, "cannot read the folder '.*file': Not a directory"),
    ("empty", "train", ValueError, "holds no images: expected folders of them, such as class/1.png"),
    ("one", "official/all", ValueError, "has one class, 'a': expected 2 or more"),
    ("few", "train", ValueError, "has 5 classes: expected 6 or more"),
    ("few", "dev", ValueError, "unknown split 'dev' of '.*: expected one of train, validation, test, official/all"),
    ("few", "official/train", ValueError, "unknown split 'official/train'"),
    ("no classes", "train", ValueError, "the image '0.png' lies in '.*' itself: expected every image in a folder"),
  ],
)
def test_wrong_folder_is_one_line_that_says_what_is_expected(tmp_path, wrong, split, error, said):
  with pytest.raises(error, match=said) as raised:
    load(wrong_folder(tmp_path, wrong), split, size=2)
  assert "\n" not in str(raised.value)


@pytest.mark.parametrize("which", ["", "alphabet 1"])
def test_folder_that_may_not_be_read_is_named(folder, which, monkeypatch):
  scandir = os.scandir

  def refuse(path):
    if os.path.samefile(path, folder / which):
      raise PermissionError(13, "Permission denied", path)
    return scandir(path)

  monkeypatch.setattr(os, "scandir", refuse)
  with pytest.raises(PermissionError, match=f"cannot read the folder '.*{which}': Permission denied"):
    load(folder, size=2)


def test_class_too_small_for_the_task_is_named(folder):
  (folder / "alphabet 0/character 3").joinpath("0.png").unlink()
  source = load(folder, "official/all", size=2)
  with pytest.raises(ValueError, match="the images of the smallest class, 'alphabet 0/character 3'; got 2 \\+ 2 = 4"):
    episodes(source, ways=2, shots=2, queries=2, meta_batch_size=1)


# Images that stay in their files.


def test_images_in_files_have_the_bytes_of_those_in_memory(folder, monkeypatch):
  save(folder / "alphabet 0" / "character 0" / "4.jpg", np.random.default_rng(0).integers(0, 256, (40, 30, 3)))
  inside = load(folder, "train", size=5, rotations=True)
  monkeypatch.setattr(lazy_images, "BYTES_IN_MEMORY", 0)
  outside = load(folder, "train", size=5, rotations=True)
  assert isinstance(outside.images, LazyImages) and isinstance(inside.images, np.ndarray)
  assert outside.images.shape == inside.images.shape and len(outside.images) == len(inside.images)
  assert outside.images.dtype == np.uint8
  assert_equal(outside._replace(images=outside.images[:])._asdict(), inside._asdict())
  for rows in (3, -1, slice(2, 9), np.array([5, 5, 0]), np.array([[1, 2], [3, 4]]), inside.labels == 1, slice(0)):
    np.testing.assert_array_equal(outside.images[rows], inside.images[rows])
  chosen = [4, 0, 17]
  few = select_classes(outside, chosen)
  np.testing.assert_array_equal(few.images[:], select_classes(inside, chosen).images)
  np.testing.assert_array_equal(with_rotations(few).images[:], with_rotations(select_classes(inside, chosen)).images)
  with pytest.raises(IndexError):
    outside.images[len(inside.images)]


def test_batches_of_images_in_files_are_those_of_images_in_memory(folder, monkeypatch):
  inside = load(folder, "official/all", size=3)
  monkeypatch.setattr(lazy_images, "BYTES_IN_MEMORY", 0)
  outside = load(folder, "official/all", size=3)
  task = {"ways": 4, "shots": 1, "queries": 2, "meta_batch_size": 6, "seed": 3}
  whole = first(episodes(inside, **task), 9)
  assert_equal(first(episodes(outside, **task), 9), whole)
  assert_equal(first(episodes(outside, **task), 2, start=7), whole[7:])
  shares = [first(episodes(outside, **task), 2, start=7, shard=(host, 2)) for host in range(2)]
  for step in (0, 1):
    assert_equal(jax.tree.map(lambda *parts: np.concatenate(parts), *(s[step] for s in shares)), whole[7 + step])
  whole = first(train_batches(inside, batch_size=14, seed=2), 7)  # more than two epochs
  assert_equal(first(train_batches(outside, batch_size=14, seed=2), 7), whole)
  assert_equal(first(train_batches(outside, batch_size=14, seed=2), 2, start=5), whole[5:])


def test_what_nobody_waits_for_is_not_decoded():
  slow, decoded = threading.Event(), []

  def read(files):
    slow.wait(10)
    decoded.append(files)
    return np.zeros((len(files), 2, 2, 1), np.uint8)

  images = LazyImages(read, (2, 2, 1), np.arange(10_000))
  images.start(slice(None))
  wait = images.start([0])
  slow.set()
  assert wait().shape == (1, 2, 2, 1) and len(decoded) < 100


def test_leaves_of_batches_are_arrays_of_their_own(folder, as_files):
  (episode,) = first(episodes(load(folder, size=2), ways=2, shots=1, queries=1, meta_batch_size=2), 1)
  assert all(isinstance(leaf, np.ndarray) for part in episode for leaf in part)
  assert {part.inputs.dtype for part in episode} == {np.dtype(np.uint8)}


def test_image_found_broken_late_is_named_in_one_line(folder, as_files):
  unreadable = break_three(folder)
  for path in unreadable[:2]:
    path.unlink()
  batches = train_batches(load(folder, "official/all", size=2), batch_size=19)()
  with pytest.raises(ValueError, match=r"character 2/1.png' cannot be read \(.*--skip-unreadable") as raised:
    list(itertools.islice(batches, 3))
  assert "\n" not in str(raised.value)


@pytest.mark.slow
def test_program_that_ends_does_not_read_on(folder):
  program = f"""
import atexit, itertools, time
from metajax.data import episodes, load
from metajax.data.files import lazy_images, verification
lazy_images.BYTES_IN_MEMORY, count, read = 0, itertools.count(), verification.read_image
verification.read_image = lambda *args, **kwargs: (time.sleep(0.01 * (next(count) > 4000)), read(*args, **kwargs))[1]
batches = episodes(load({str(folder)!r}, "official/all"), ways=5, shots=1, queries=3, meta_batch_size=200)()
next(batches)
atexit.register(lambda: print(next(count)))
"""
  run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
  assert 4000 < int(run.stdout) < 8000  # of 12,000 in the batch that is used and the two that are read ahead


# Which images a task takes.


@pytest.mark.parametrize("lazy", [False, True])
def test_rows_of_a_task_are_the_images_that_its_episode_has(folder, lazy, monkeypatch):
  if lazy:
    monkeypatch.setattr(lazy_images, "BYTES_IN_MEMORY", 0)
  source = load(folder, "official/all", size=2)
  task = {"ways": 3, "shots": 1, "queries": 2, "seed": 7}
  rows_of = episode_rows(source, **task)
  (episode,) = first(episodes(source, **task, meta_batch_size=4), 1, start=5)
  for t in range(4):
    rows = rows_of(5 * 4 + t)
    assert rows.dtype == np.int64 and rows.shape == (3, 3) and len(np.unique(rows)) == 9
    for examples_of, taken in ((episode.support, rows[:, :1]), (episode.query, rows[:, 1:])):
      pixels = source.images[taken.reshape(-1)]
      np.testing.assert_array_equal(examples_of.inputs[t], pixels)
    assert (source.labels[rows] == source.labels[rows[:, :1]]).all() and len(set(source.labels[rows[:, 0]])) == 3
  with pytest.raises(ValueError, match="got -1"):
    rows_of(-1)
  with pytest.raises(ValueError, match="got 11"):
    episode_rows(source, ways=11, shots=1, queries=1)


# Tables.


def table(folder, rows, header=("path", "label"), name="table.csv"):
  path = folder / name
  with open(path, "w", newline="", encoding="utf-8-sig") as file:
    csv.writer(file).writerows([header, *rows])
  return path


def test_table_names_images_from_its_folder_their_classes_groups_and_splits(folder):
  rows = [
    (f"alphabet {c // 5}/character {c}/{k}.png", f"λ {c}", "x", ("train", "val", "test")[(c > 2) + (c > 5)])
    for c in range(10)
    for k in (0, 2)
  ]
  path = table(folder, rows[:0:-1] + rows[:1], ("path", "label", "group", "split"))
  source = load(path, "official/all", size=2)
  assert source.classes == tuple(f"λ {c}" for c in range(10)) and source.superclasses == ("x",) * 10
  np.testing.assert_array_equal(source.images[[0, -1], 0, 0, 0], [182, 0])
  assert load(path, "test", size=2).classes == tuple(f"λ {c}" for c in range(6, 10))
  assert len(load(table(folder, [row[:2] for row in rows]), "train", size=2).classes) == 6


@pytest.mark.parametrize(
  ("text", "said"),
  [
    (b"", "line 1: expected the columns path and label, got nothing"),
    (b"file,label\n", "line 1: expected the columns path and label, got file, label"),
    (b"path,label\n", "names no images"),
    (b"path,label\na.png,x\nb.png,\n", "line 3: the label is empty"),
    (b"path,label\n ,x\n", "line 2: the path is empty"),
    (b"path,label\n\na.png\n", "line 3: expected 2 fields, got 1"),
    (b"path,label\na,b.png,x\n", "line 2: expected 2 fields, got 3"),
    (b"path,label,split\na.png,x,dev\n", "line 2: got split 'dev', expected train, validation or test"),
    (b"path,label\na.png,x\n", "has one class, 'x'"),
    (b"path,label,group\na.png,x,g\nb.png,x,h\nc.png,y,g\n", "has class 'x' in two groups, 'g' and 'h'"),
    (b"path,label\na.png,\xff\n", "is not UTF-8 text: byte 17 is 0xff"),
    (b'path,label\n"a.png,x\n', "line 2: unexpected end of data"),
    (b"path,label\na.png,x\nb.png,y\n", "2 of 2 .*: 'a.png' in line 2 \\(no such file\\), 'b.png' in line 3"),
  ],
)
def test_wrong_table_is_one_line_that_names_its_line(tmp_path, text, said):
  (tmp_path / "t.csv").write_bytes(text)
  with pytest.raises(ValueError, match=said) as raised:
    load(tmp_path / "t.csv", "official/all", size=2)
  assert "\n" not in str(raised.value)


def test_table_or_archive_that_is_not_there_is_named(tmp_path):
  for name in ("t.csv", "t.npz"):
    with pytest.raises(FileNotFoundError, match=f"cannot read '.*{name}': No such file"):
      load(tmp_path / name, "official/all")


def test_images_of_a_table_may_have_any_name(folder, as_files):
  for c in (0, 1):
    (folder / f"{c}.dat").write_bytes((folder / f"alphabet 0/character {c}/0.png").read_bytes())
  (folder / "2").write_bytes(b"no image at all")
  source = load(
    table(folder, [("0.dat", "a"), ("1.dat", "b"), ("2", "b")]), "official/all", size=2, skip_unreadable=True
  )
  assert source.unreadable == ("'2' in line 4",) and source.images[:][:, 0, 0, 0].tolist() == [0, 20]


def test_missing_images_of_a_table_are_left_out_where_so_wished(folder):
  path = table(
    folder, [("alphabet 0/character 0/0.png", "a"), ("alphabet 0/character 1/0.png", "b"), ("gone.png", "c")]
  )
  source = load(path, "official/all", size=2, skip_unreadable=True)
  assert source.classes == ("a", "b") and source.unreadable == ("'gone.png' in line 4",)


# Arrays.


def archive(folder, **arrays):
  np.savez(folder / "arrays.npz", **arrays)
  return folder / "arrays.npz"


def test_archive_gives_images_and_the_names_of_their_classes(tmp_path):
  pixels = np.random.default_rng(0).integers(0, 256, (4, 6, 6)).astype(np.uint8)
  labels = np.array([10, 10, -3, 9])
  source = load(archive(tmp_path, images=pixels, labels=labels), "official/all", size=6)
  assert source.classes == ("-3", "9", "10") and source.labels.tolist() == [2, 2, 0, 1]
  np.testing.assert_array_equal(source.images[..., 0], pixels)
  halves = load(archive(tmp_path, images=pixels[..., None] / 255.0, labels=list("baca")), "official/all", size=3)
  assert halves.classes == ("a", "b", "c") and halves.labels.tolist() == [1, 0, 2, 0]
  assert np.abs(halves.images[..., 0] - pixels.reshape(4, 3, 2, 3, 2).mean(axis=(2, 4))).max() <= 1
  named = archive(
    tmp_path,
    images=np.stack([pixels] * 3, axis=-1),
    labels=[0, 0, 2, 2],
    classes=["p", "q", "r"],
    groups=list("xxyy"),
    split=["train", "train", "test", "test"],
  )
  source = load(named, "official/all", size=6)
  assert source.classes == ("p", "r") and source.superclasses == ("x", "y") and source.images.shape == (4, 6, 6, 3)
  assert load(named, "official/test", size=6).classes == ("r",)


PIXELS = np.zeros((2, 3, 3), np.uint8)


@pytest.mark.parametrize(
  ("arrays", "said"),
  [
    ({"images": PIXELS}, "has no array 'labels': expected images and labels, got images"),
    ({"images": PIXELS, "labels": ["a"]}, "has labels of shape \\[1\\], expected \\[2\\]"),
    ({"images": PIXELS[0], "labels": [0, 1, 2]}, "images of shape \\[3, 3\\]"),
    ({"images": PIXELS[..., None].repeat(2, -1), "labels": [0, 1]}, "images of shape \\[2, 3, 3, 2\\]"),
    ({"images": PIXELS.astype(int), "labels": [0, 1]}, "images of int64, expected uint8 from 0 to 255 or floats"),
    ({"images": PIXELS - 0.5, "labels": [0, 1]}, "images from -0.5 to -0.5, expected floats from 0 to 1"),
    ({"images": PIXELS * np.nan, "labels": [0, 1]}, "images from nan to nan"),
    ({"images": PIXELS, "labels": [0.0, 1.0]}, "labels of float64, expected integers or strings"),
    ({"images": PIXELS, "labels": [0, 2], "classes": ["a", "b"]}, "labels from 0 to 2, expected 0 to 1"),
    ({"images": PIXELS, "labels": [0, 1], "classes": ["a", "a"]}, "classes <U1 \\[2\\], expected unique strings"),
    ({"images": PIXELS, "labels": ["a", "b"], "classes": ["a", "b"]}, "labels of <U1, expected integers, the indices"),
    ({"images": PIXELS, "labels": [0, 1], "split": ["train", "dev"]}, "the split 'dev', expected train, validation"),
    ({"images": PIXELS, "labels": [3, 3]}, "has one class, '3'"),
    (
      {"images": PIXELS, "labels": np.array(["a", 1], object)},
      "holds pickled objects, which are never read: save plain",
    ),
  ],
)
def test_wrong_archive_is_one_line_that_says_what_is_expected(tmp_path, arrays, said):
  with pytest.raises(ValueError, match=said) as raised:
    load(archive(tmp_path, **arrays), "official/all", size=3)
  assert "\n" not in str(raised.value)


def test_file_that_is_no_archive_or_a_damaged_one_is_refused(tmp_path):
  path = tmp_path / "arrays.npz"
  with open(path, "wb") as file:
    np.save(file, PIXELS)
  with pytest.raises(ValueError, match=r"'.*arrays.npz' is not an .npz archive"):
    load(path, "official/all")
  np.savez(path, images=np.arange(2 * 28 * 28, dtype=np.uint8).reshape(2, 28, 28), labels=[0, 1])
  content = bytearray(path.read_bytes())
  content[300:400] = bytes(100)
  path.write_bytes(content)
  with pytest.raises(ValueError, match=r"'.*arrays.npz' is damaged: ") as raised:
    load(path, "official/all")
  assert "\n" not in str(raised.value)


# Large folders.


@pytest.mark.slow
@pytest.mark.parametrize(("size", "channels"), [(28, 1), (84, 3)])
def test_folder_of_200_000_files_starts_within_30_seconds_and_2_gib(tmp_path, size, channels):
  rng = np.random.default_rng(0)
  for i in range(400):
    save(tmp_path / "distinct" / f"{i}.png", rng.integers(0, 256, (size, size, channels)).squeeze())
  for c in range(1000):
    (tmp_path / "data" / f"class {c}").mkdir(parents=True)
    for k in range(200):
      os.link(tmp_path / "distinct" / f"{(7 * c + k) % 400}.png", tmp_path / "data" / f"class {c}" / f"{k}.png")
  # VmHWM is of the process alone: `ru_maxrss` begins with what its parent held.
  program = f"""
import re, time
began = time.process_time()
from metajax.data import episodes, load
source = load({str(tmp_path / "data")!r}, "official/all", size={size})
batch = next(episodes(source, ways=5, shots=1, queries=15, meta_batch_size=16)())
assert batch.query.inputs.shape == (16, 75, {size}, {size}, {channels}) and len(source.images) == 200_000
peak = re.search(r"VmHWM:\\s*(\\d+) kB", open("/proc/self/status").read())[1]
print(time.process_time() - began, int(peak) / 2**20)
"""
  run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
  seconds, gib = map(float, run.stdout.split())
  shutil.rmtree(tmp_path / "data")
  assert seconds < 30 and gib < 2, (seconds, gib)


@pytest.mark.parametrize("only", ["train", "val", "test"])
def test_a_table_of_one_split_has_that_split_and_is_dealt_out_like_one_of_none(folder, only):
  rows = [(f"alphabet {c // 5}/character {c}/{k}.png", f"λ {c}", only) for c in range(10) for k in range(2)]
  path, named = table(folder, rows, ("path", "label", "split")), {"val": "validation"}.get(only, only)
  other = "train" if only == "test" else "test"
  assert len(load(path, f"official/{named}", size=2).labels) == 20
  parts = [load(path, part, size=2).classes for part in ("train", "validation", "test")]
  assert sorted(sum(parts, ())) == [f"λ {c}" for c in range(10)]
  with pytest.raises(
    ValueError, match=rf"unknown split 'official/{other}' of .*: expected one of .*official/{named}, official/all$"
  ):
    load(path, f"official/{other}", size=2)


def test_an_archive_of_one_split_has_that_split(tmp_path):
  images, labels = np.zeros((14, 4, 4), np.uint8), np.arange(14) // 2
  np.savez(tmp_path / "x.npz", images=images, labels=labels, split=["test"] * 14)
  assert len(load(tmp_path / "x.npz", "official/test", size=4).labels) == 14
  with pytest.raises(ValueError, match=r"unknown split 'official/train' of .*official/test, official/all"):
    load(tmp_path / "x.npz", "official/train", size=4)
