"""What the commands say of images that cannot be read and of classes that are too small."""

import os

import numpy as np
import pytest
from test_broken_images import write_folder

from experiments.families import data
from experiments.families.data import ImageData
from experiments.families.image_text import data as captioned
from experiments.families.representation import data as representation
from metajax.data import Recordings, UnreadableImages, from_arrays


@pytest.fixture
def folder(tmp_path):
  return write_folder(tmp_path / "set", classes=16, each=3)


def test_broken_images_of_all_parts_are_named_at_once_and_counted_of_the_whole_set(folder):
  for c in range(16):
    (folder / f"class {c}" / "0.png").write_bytes(b"")
  with pytest.raises(UnreadableImages, match=r"^16 of 48 images of '.*set' cannot be read: .* and 11 more; ") as raised:
    data.load_parts(ImageData(data=str(folder), size=4))
  assert len(set(raised.value.files)) == 16
  with pytest.raises(UnreadableImages, match=r"^\d+ of 48 images of"):
    representation.load_parts(ImageData(data=str(folder), size=4), "unseen")


def test_one_of_many_is_said_in_the_singular(folder, capsys):
  (folder / "class 3" / "1.png").write_bytes(b"")
  s = ImageData(data=str(folder), size=4, skip_unreadable=True)
  data.describe(s, data.load_parts(s))
  assert "left out 1 image that cannot be read: 'class 3/1.png'\n" in capsys.readouterr().out
  s = s._replace(min_images_per_class=3)
  data.describe(s, data.load_parts(s))
  assert "left out 1 class of fewer than 3 images: class 3\n" in capsys.readouterr().out
  for c in range(8, 14):
    (folder / f"class {c}" / "2.png").unlink()
  data.describe(s, data.load_parts(s))
  out = capsys.readouterr().out
  assert "left out 7 classes of fewer than 3 images: class 10, class 11, class 12, class 13, class 3, ...\n" in out


def test_a_name_of_any_length_is_a_part_of_a_files_name(folder, monkeypatch):
  monkeypatch.setenv("HOME", str(folder.parent))
  slugs = {"x" * 300: "x" * 100, "é" * 300: "é" * 50, "a/b": "a_b", "gs://b": "gs:__b"}
  slugs |= {str(folder): "set", "~/set": "set"}
  assert {name: data.slug(ImageData(data=name)) for name in slugs} == slugs
  monkeypatch.chdir(folder)
  assert data.slug(ImageData(data=".")) == "set" and os.sep not in data.slug(ImageData(data=".."))


@pytest.fixture
def parted(tmp_path):
  """Two images of each of seven classes to train on and two to test on, and a caption of each."""
  folder = write_folder(tmp_path / "set", classes=7, each=4)
  names = [f"class {c}/{k}.png" for c in range(7) for k in range(4)]
  rows = [f"{name},{name[:7]},{('train', 'test')[i % 2]}\n" for i, name in enumerate(names)]
  (folder / "t.csv").write_text("path,label,split\n" + "".join(rows))
  rows = [f"{name},a {i}th,{('train', 'validation', 'test')[i % 3]}\n" for i, name in enumerate(names)]
  (folder / "captions.csv").write_text("path,caption,split\n" + "".join(rows))
  return folder


def test_a_broken_image_that_is_held_out_is_named_and_no_other_part_is_tested_on(parted):
  (parted / "class 0" / "1.png").write_bytes(b"")
  with pytest.raises(UnreadableImages, match=r"1 of 28 images of .*'class 0/1.png'"):
    captioned.load_data(ImageData(data=str(parted), size=16), permuted=False, seed=0)
  with pytest.raises(UnreadableImages, match=r"1 of 28 images of .*'class 0/1.png'"):
    representation.load_parts(ImageData(data=str(parted / "t.csv"), size=16), "auto")


@pytest.mark.parametrize("c", range(7))
def test_a_broken_image_of_any_class_is_named_and_classes_stay_the_same(parted, c):
  (parted / f"class {c}" / "0.png").write_bytes(b"")
  with pytest.raises(UnreadableImages, match=f"1 of 28 images of .*'class {c}/0.png'"):
    representation.load_parts(ImageData(data=str(parted / "t.csv"), size=16), "auto")


def test_a_split_that_is_there_and_damaged_is_no_split_that_is_missing(monkeypatch):
  def damaged(name, split, **_):
    assert split.startswith("official/"), "another part was taken in its place"
    raise ValueError("the records of 'x' cannot be read")

  monkeypatch.setattr(captioned, "load_captioned", damaged)
  monkeypatch.setattr(data, "load", damaged)
  for load, given in ((captioned.load_data, (False, 0)), (representation.load_parts, ("auto",))):
    with pytest.raises(ValueError, match="the records of 'x' cannot be read"):
      load(ImageData(data="x", size=16), *given)


def test_what_was_left_out_of_captioned_images_is_counted_and_named(parted, capsys):
  (parted / "class 0" / "1.png").write_bytes(b"")  # of validation, which is held out
  s = ImageData(data=str(parted), size=16, skip_unreadable=True)
  captioned.describe(s, captioned.load_data(s, permuted=False, seed=0), permuted=False)
  assert "left out 1 image that cannot be read: 'class 0/1.png'\n" in capsys.readouterr().out


def test_names_of_classes_that_were_left_out_command_no_terminal(capsys):
  small = from_arrays(np.zeros((4, 2, 2, 1), np.uint8), [0, 0, 1, 1])._replace(small_classes=("\x1b[31m",))
  data.describe(ImageData(data="\x1b[2J"), dict.fromkeys(("train", "validation", "test"), small))
  out = capsys.readouterr().out
  assert "\x1b" not in out and r"\x1b[2J: " in out and r"image: \x1b[31m" in out


def test_one_recording_that_was_left_out_is_a_file(capsys):
  clips = Recordings(np.zeros((1, 4, 2, 2, 1), np.uint8), None, 4.0, 0, ("x",), ("",), {})._replace(
    unreadable=("x.mp4: it is empty",)
  )
  some = from_arrays(np.zeros((2, 2, 2, 1), np.uint8), [0, 1])
  representation.describe(ImageData(), representation.ProbeSplits(clips, some, some, some, True, None))
  out = capsys.readouterr().out
  assert "left out 1 file that cannot be read: x.mp4: it is empty\n" in out
