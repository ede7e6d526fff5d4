"""What the commands say of pictures that cannot be read and of classes that are too small."""

import os

import pytest
from test_broken_images import write_folder

from experiments import few_shot_data, pretraining, pretraining_data
from experiments.few_shot import Setting
from metajax.data import BrokenPictures


@pytest.fixture
def folder(tmp_path):
  return write_folder(tmp_path / "set", classes=16, each=3)


def test_broken_pictures_of_all_parts_are_named_at_once_and_counted_of_the_whole_set(folder):
  for c in range(16):
    (folder / f"class {c}" / "0.png").write_bytes(b"")
  with pytest.raises(BrokenPictures, match=r"^16 of 48 pictures of '.*set' cannot be read: .* and 11 more; ") as raised:
    few_shot_data.load_parts(Setting(data=str(folder), size=4))
  assert len(set(raised.value.files)) == 16
  with pytest.raises(BrokenPictures, match=r"^\d+ of 48 pictures of"):
    pretraining_data.load_parts(pretraining.Setting(data=str(folder), size=4, classes="unseen"))


def test_one_of_many_is_said_in_the_singular(folder, capsys):
  (folder / "class 3" / "1.png").write_bytes(b"")
  s = Setting(data=str(folder), size=4, skip_broken=True)
  few_shot_data.describe(s, few_shot_data.load_parts(s))
  assert "left out 1 picture that cannot be read: 'class 3/1.png'\n" in capsys.readouterr().out
  s = s._replace(min_images_per_class=3)
  few_shot_data.describe(s, few_shot_data.load_parts(s))
  assert "left out 1 class of fewer than 3 pictures: class 3\n" in capsys.readouterr().out
  for c in range(8, 14):
    (folder / f"class {c}" / "2.png").unlink()
  few_shot_data.describe(s, few_shot_data.load_parts(s))
  out = capsys.readouterr().out
  assert "left out 7 classes of fewer than 3 pictures: class 10, class 11, class 12, class 13, class 3, ...\n" in out


def test_a_name_of_any_length_is_a_part_of_a_files_name(folder, monkeypatch):
  monkeypatch.setenv("HOME", str(folder.parent))
  slugs = {"x" * 300: "x" * 100, "é" * 300: "é" * 50, "a/b": "a_b", "gs://b": "gs:__b"}
  slugs |= {str(folder): "set", "~/set": "set"}
  assert {name: few_shot_data.slug(Setting(data=name)) for name in slugs} == slugs
  monkeypatch.chdir(folder)
  assert few_shot_data.slug(Setting(data=".")) == "set" and os.sep not in few_shot_data.slug(Setting(data=".."))
