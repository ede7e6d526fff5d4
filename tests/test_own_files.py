"""A user's files can do no harm: no file is waited for, runs anything, hides a second value or takes all memory."""

import io
import json
import os
import pathlib
import socket
import struct
import sys
import time
import warnings
import wave
import zipfile

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image
from test_broken_images import store, write_folder

from metajax.data import UnreadableImages, load, load_captioned, load_recordings, load_texts, load_tokenizer
from metajax.data.builtin import cache
from metajax.data.files import image_file, user_images
from metajax.data.files.image_file import UnreadableImage, check_beginning, is_gray, read_image
from metajax.data.video import user_recordings


@pytest.fixture(autouse=True)
def quick(monkeypatch, tmp_path):
  """What is refused is refused within seconds, and nothing is kept."""
  monkeypatch.setenv("METAJAX_CACHE", str(tmp_path / "cache"))
  began = time.monotonic()
  yield
  assert time.monotonic() - began < 10


def save(path, pixels, **how):
  path.parent.mkdir(parents=True, exist_ok=True)
  Image.fromarray(np.asarray(pixels, np.uint8)).save(path, **how)


# Only regular files are opened.


def irregular(path, kind):
  """A path to something that is no file: itself, or a link to it."""
  if kind == "socket":
    with socket.socket(socket.AF_UNIX) as one:
      one.bind(str(path))
  elif kind == "device":
    os.symlink("/dev/zero", path)
  elif kind == "link":
    os.mkfifo(path.with_suffix(".fifo"))
    os.symlink(path.with_suffix(".fifo").absolute(), path)
  else:
    os.mkfifo(path)
  return path


SAID = {"fifo": "a FIFO", "link": "a FIFO", "socket": "a socket", "device": "a device"}


@pytest.mark.parametrize("kind", SAID)
@pytest.mark.parametrize("lazy", [False, True])
def test_what_is_no_regular_file_is_named_and_not_opened(tmp_path, monkeypatch, kind, lazy):
  monkeypatch.chdir(tmp_path)  # a socket's path is short
  folder = write_folder(pathlib.Path("set"), classes=2, each=2)
  irregular(folder / "class 0" / "x.png", kind)
  if lazy:
    monkeypatch.setattr(user_images, "FILES_IN_MEMORY", 0)
  with pytest.raises(UnreadableImages, match=rf"1 of 5 .*'class 0/x.png' \({SAID[kind]}, expected a regular file\)"):
    load("./set", "official/all", size=4)
  assert load("./set", "official/all", size=4, skip_unreadable=True).unreadable == ("'class 0/x.png'",)


def test_a_device_is_not_read(tmp_path):
  with pytest.raises(UnreadableImage, match="a device, expected a regular file"):
    read_image(irregular(tmp_path / "x.png", "device"), size=4, channels=1)


@pytest.mark.parametrize("reader", [lambda p: read_image(p, size=4, channels=1), is_gray, check_beginning])
def test_a_fifo_is_not_waited_for_by_any_reader_of_images(tmp_path, reader):
  with pytest.raises(UnreadableImage, match="a FIFO, expected a regular file"):
    reader(str(irregular(tmp_path / "x.png", "fifo")))


@pytest.mark.parametrize(
  ("name", "use"),
  [
    ("x.csv", lambda path: load(path)),
    ("x.npz", lambda path: load(path)),
    ("x.csv", lambda path: load_captioned(path)),
    ("x.jsonl", lambda path: load_captioned(path)),
    ("x.txt", lambda path: load_texts(path)),
    ("x.txt", lambda path: load_tokenizer(path)),
    ("x.json", lambda path: load_tokenizer(path)),
  ],
)
def test_a_fifo_in_place_of_a_table_or_a_text_is_named(tmp_path, name, use):
  with pytest.raises(OSError, match=r"x\.\w+") as raised:
    use(irregular(tmp_path / name, "fifo"))
  assert "a FIFO" in str(raised.value) or "which does not exist" in str(raised.value)


def test_a_fifo_that_a_table_names_is_named_by_its_line(tmp_path):
  irregular(tmp_path / "x.png", "fifo")
  save(tmp_path / "0.png", np.zeros((4, 4)))
  (tmp_path / "t.csv").write_text("path,label\n0.png,a\nx.png,b\n")
  with pytest.raises(ValueError, match=r"1 of 2 .*'x.png' in line 3 \(a FIFO"):
    load(tmp_path / "t.csv", "official/all", size=4)
  (tmp_path / "captions.csv").write_text("path,caption\n0.png,a\nx.png,b\n")
  with pytest.raises(ValueError, match=r"1 of 2 .*'x.png' \(a FIFO"):
    load_captioned(tmp_path / "captions.csv", "official/all", size=4)


@pytest.mark.parametrize("name", ["x.mp4", "x.wav"])
def test_a_fifo_among_recordings_is_named(tmp_path, name):
  save(tmp_path / "x.png", np.zeros((4, 4)))
  irregular(tmp_path / name, "fifo")
  with pytest.raises(ValueError, match=r"1 of 1 files of .*a FIFO, expected a regular file; pass skip_unreadable=True"):
    load_recordings(tmp_path, "all", size=8)


def test_a_fifo_in_a_prepared_set_is_named(tmp_path):
  label = {"label": tfds.features.ClassLabel(num_classes=2), "image": tfds.features.Image(shape=(4, 4, 1))}
  store(str(tmp_path), "made", label, [{"label": i, "image": np.zeros((4, 4, 1), np.uint8)} for i in range(2)])
  (file,) = (tmp_path / "made" / "1.0.0").glob("*tfrecord*")
  file.unlink()
  irregular(file, "fifo")
  with pytest.raises(OSError, match="a FIFO, expected a regular file"):
    load("made", "official/train", data_dir=tmp_path)


# Formats of images, and of clips, are those of a list.


def test_formats_that_call_programs_are_no_images(tmp_path, monkeypatch):
  folder = write_folder(tmp_path / "set", classes=2, each=2)
  Image.new("RGB", (4, 4)).save(folder / "class 0" / "x.eps")
  (folder / "class 0" / "y.ps").write_bytes((folder / "class 0" / "x.eps").read_bytes())
  monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", lambda *args, **how: pytest.fail("a program was called"))
  assert len(load(folder, "official/all", size=4).labels) == 4
  (folder / "class 0" / "x.eps").rename(folder / "class 0" / "x.png")  # by another name
  for lazy in (False, True):
    with monkeypatch.context() as patch:
      patch.setattr(user_images, "FILES_IN_MEMORY", 0 if lazy else 10)
      with pytest.raises(UnreadableImages, match=r"x.png' \(not an image of a format that is read\)"):
        load(folder, "official/all", size=4)
  assert not {".eps", ".ps", ".pdf", ".wmf", ".emf", ".fits", ".h5", ".mpg", ".psd", ".pcd"} & image_file.EXTENSIONS


@pytest.mark.parametrize("kind", ["PCX", "ICO", "SGI", "PSD-like", "IM"])
def test_formats_that_are_not_listed_are_not_opened(tmp_path, kind):
  path = tmp_path / "x.png"
  if kind == "PSD-like":
    path.write_bytes(b"8BPS" + b"\0\1" + bytes(100))
  else:
    Image.new("L", (16, 16)).save(path, kind)
  with pytest.raises(UnreadableImage, match="not an image of a format that is read"):
    read_image(path, size=4, channels=1)


def test_a_playlist_by_the_name_of_a_clip_opens_no_other_file(tmp_path):
  pytest.importorskip("av")
  path = tmp_path / "sound.wav"
  with wave.open(str(path), "wb") as file:
    file.setparams((1, 2, 8000, 0, "NONE", ""))
    file.writeframes(bytes(16000))
  for name, text in (
    ("x.mp4", f"#EXTM3U\n#EXTINF:1,\nfile://{path}\n#EXT-X-ENDLIST\n"),
    ("y.mp4", f"ffconcat version 1.0\nfile {path.name}\n"),
  ):
    (tmp_path / name).write_text(text)
    with pytest.raises(user_recordings.BrokenRecording):
      user_recordings.read_sound(tmp_path / name, 8000)
  assert len(user_recordings.read_sound(path, 8000)) == 8000


def test_features_of_a_module_of_someones_own_are_never_imported(tmp_path, monkeypatch):
  label = {"label": tfds.features.ClassLabel(num_classes=2), "image": tfds.features.Image(shape=(4, 4, 1))}
  store(str(tmp_path), "made", label, [{"label": 0, "image": np.zeros((4, 4, 1), np.uint8)}])
  (tmp_path / "evil_payload.py").write_text("raise SystemExit('it ran')\n")
  monkeypatch.syspath_prepend(str(tmp_path))
  path = tmp_path / "made" / "1.0.0" / "features.json"
  for said in (
    path.read_text().replace("tensorflow_datasets.core.features.image_feature.Image", "evil_payload.Image"),
    json.dumps({"type": "evil_payload.Feature", "content": {}}),
  ):
    assert "evil_payload" in said
    path.write_text(said)
    with pytest.raises(ValueError, match=r"got 'evil_payload\.\w+', which is never imported"):
      load("made", "official/train", data_dir=tmp_path)
  assert "evil_payload" not in sys.modules


# A limit of pixels, which is ours.


def header(side):
  """A PNG that says that it has side x side pixels, and holds none."""
  chunk = lambda kind, data: struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zipfile.crc32(kind + data))
  said = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
  return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", said) + chunk(b"IDAT", b"x") + chunk(b"IEND", b"")


def test_an_image_of_more_pixels_than_are_decoded_is_refused_by_its_header(tmp_path):
  (tmp_path / "x.png").write_bytes(header(20_000))
  with pytest.raises(UnreadableImage, match="it has 400,000,000 pixels, and at most 268,435,456 are decoded"):
    read_image(tmp_path / "x.png", size=4, channels=1)
  (tmp_path / "x.png").write_bytes(header(16_000))  # no attack, though Pillow would call it one: it is only broken
  with pytest.raises(UnreadableImage, match=r"^(?!.*pixels)"):
    read_image(tmp_path / "x.png", size=4, channels=1)


@pytest.mark.parametrize("ending", ["png", "tiff", "webp", "gif", "bmp", "jpg"])
def test_a_large_image_is_read_without_a_word_about_attacks(tmp_path, monkeypatch, ending):
  path = tmp_path / f"x.{ending}"
  save(path, np.full((64, 64, 3), 100))
  monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)  # Pillow's own limit: it warns above it, and fails above twice
  monkeypatch.setattr(image_file, "LARGE", 900)
  with warnings.catch_warnings():
    warnings.simplefilter("error")
    assert is_gray(path) is (ending == "gif" and is_gray(path))
    assert np.abs(read_image(path, size=4, channels=3).astype(int) - 100).max() <= 3
  assert Image.MAX_IMAGE_PIXELS == 1000  # as it was for everybody else


def test_a_larger_jpeg_is_read_at_a_fraction_of_its_size_where_it_can_be(tmp_path, monkeypatch):
  pixels = np.repeat(np.repeat(np.arange(4) * 60, 128)[None], 512, 0)
  monkeypatch.setattr(image_file, "MOST_PIXELS", 128 * 128)
  save(tmp_path / "x.jpg", pixels, quality=95)
  read = read_image(tmp_path / "x.jpg", size=4, channels=1)
  assert np.abs(read[0, :, 0].astype(int) - np.arange(4) * 60).max() <= 2
  save(tmp_path / "p.jpg", pixels, progressive=True)  # its decoder keeps all of it
  save(tmp_path / "x.png", pixels)
  for name, size in (("p.jpg", 4), ("x.png", 4), ("x.jpg", 64)):
    with pytest.raises(UnreadableImage, match="it has 262,144 pixels, and at most 16,384 are decoded"):
      read_image(tmp_path / name, size=size, channels=1)


# Tables and archives say each thing once.


@pytest.mark.parametrize(
  ("text", "said"),
  [
    ("path,label,label\na.png,x,y\n", "line 1: expected each column once, got 'label' twice in path, label, label"),
    ("path, path ,label\na.png,b.png,y\n", "got 'path' twice"),
    ("path,label,split,split\na.png,x,train,test\n", "got 'split' twice"),
    (
      "path,label\na.png,x\nb.png,y\n./a.png,y\n",
      "line 4: expected each image once, got './a.png' with the label 'y', which has 'x' in line 2",
    ),
    ("path,label\na.png,x\nb.png,y\na.png,x\n", "line 4: expected each image once, got 'a.png' .* 'x' in line 2"),
  ],
)
def test_a_column_or_an_image_that_is_there_twice_is_refused(tmp_path, text, said):
  (tmp_path / "t.csv").write_text(text)
  with pytest.raises(ValueError, match=said) as raised:
    load(tmp_path / "t.csv", "official/all", size=4)
  assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
  ("name", "text", "said"),
  [
    ("captions.csv", "path,caption,caption\na.png,x,y\n", "expected each column once, got 'caption' twice"),
    ("captions.jsonl", '{"path": "a.png", "caption": "x", "caption": "y"}', "'caption' occurs twice"),
    ("captions.jsonl", '{"path": "a.png", "caption": "x", "split": []}', r"got split \[\], expected train"),
    ("captions.jsonl", '["path", "caption"]', "expected a dict in .*line 1"),
  ],
)
def test_captions_say_each_thing_once(tmp_path, name, text, said):
  (tmp_path / name).write_text(text)
  with pytest.raises(ValueError, match=said):
    load_captioned(tmp_path / name, "official/all", size=4)


def test_one_image_by_two_spellings_is_one_class_of_captions(tmp_path):
  for number in range(2):
    save(tmp_path / f"{number}.png", np.zeros((4, 4)))
  (tmp_path / "captions.csv").write_text("path,caption\n0.png,a\n./0.png,b\n1.png,c\n")
  assert load_captioned(tmp_path, "official/all", size=4).captions == (("a", "b"), ("c",))


def test_an_image_under_two_labels_by_a_link_is_refused(tmp_path):
  folder = write_folder(tmp_path / "set", classes=3, each=2)
  os.symlink(folder / "class 0/1.png", folder / "class 1/z.png")
  with pytest.raises(ValueError, match=r"one image twice, by a link: 'class 0/1.png' and 'class 1/z.png'"):
    load(folder, "official/all", size=4)
  (folder / "class 1/z.png").unlink()
  os.symlink(folder / "class 2", folder / "class 3")
  with pytest.raises(ValueError, match=r"one image twice, by a link: 'class 2/0.png' and 'class 3/0.png'"):
    load(folder, "official/all", size=4)


PIXELS = np.zeros((2, 3, 3), np.uint8)


@pytest.mark.parametrize(
  ("arrays", "said"),
  [
    ({"labels": ["a", ""]}, r"an empty text at labels\[1\], expected the name of a class"),
    ({"labels": ["a", " "]}, r"an empty text at labels\[1\]"),
    ({"labels": [0, 1], "classes": ["a", ""]}, r"an empty text at classes\[1\]"),
    ({"labels": np.array([b"a", b"\xff"])}, r"labels that are not UTF-8 text: got b'\\xff'"),
  ],
)
def test_an_archive_without_the_name_of_a_class_is_refused(tmp_path, arrays, said):
  np.savez(tmp_path / "x.npz", images=PIXELS, **arrays)
  with pytest.raises(ValueError, match=said):
    load(tmp_path / "x.npz", "official/all", size=3)


def test_labels_of_bytes_are_utf_8(tmp_path):
  np.savez(tmp_path / "x.npz", images=PIXELS, labels=np.array(["ä".encode(), b"b"]))
  assert load(tmp_path / "x.npz", "official/all", size=3).classes == ("b", "ä")


DEEP = "[" * 100_000


def of_header(shape, kind="|u1"):
  said = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}".encode()
  said += b" " * (-(len(said) + 11) % 64) + b"\n"
  return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(said)) + said


def archive(path, **members):
  with zipfile.ZipFile(path, "w") as file:
    for name, content in members.items():
      file.writestr(f"{name}.npy", content)
  return path


def of_array(array):
  file = io.BytesIO()
  np.save(file, array)
  return file.getvalue()


@pytest.mark.parametrize(
  ("shape", "said"),
  [((10**6, 10**6, 1000), "909.5 TiB"), ((2**70, 3, 3), r"9,216 EiB"), ((2, 3, 4), "24 bytes"), ((1, 3, 3), "9 bytes")],
)
def test_an_archive_whose_header_does_not_say_what_it_holds_is_refused(tmp_path, shape, said):
  path = archive(tmp_path / "x.npz", images=of_header(shape) + bytes(18), labels=of_array(np.arange(2)))
  with pytest.raises(ValueError, match=rf"is damaged: images, uint8 .*, need {said}, and 18 bytes are there") as raised:
    load(path, "official/all")
  assert "\n" not in str(raised.value)


def test_a_set_that_claims_more_records_than_its_files_can_hold_is_refused(tmp_path):
  label = {"label": tfds.features.ClassLabel(num_classes=2), "image": tfds.features.Image(shape=(4, 4, 1))}
  store(str(tmp_path), "made", label, [{"label": i, "image": np.zeros((4, 4, 1), np.uint8)} for i in range(2)])
  path = tmp_path / "made" / "1.0.0" / "dataset_info.json"
  said = json.loads(path.read_text())
  said["splits"][0]["shardLengths"] = [str(10**14)]
  path.write_text(json.dumps(said))
  with pytest.raises(ValueError, match=r"claims 100,000,000,000,000 records in files of \d+ bytes"):
    load("made", "official/train", data_dir=tmp_path)


def test_an_archive_of_more_than_the_memory_is_refused(tmp_path, monkeypatch):
  np.savez(tmp_path / "x.npz", images=PIXELS, labels=[0, 1])
  monkeypatch.setattr(os, "sysconf", lambda name: 4)
  with pytest.raises(ValueError, match="holds 34 bytes, expected at most the 16 bytes of this machine's memory"):
    load(tmp_path / "x.npz", "official/all")


def test_an_archive_with_an_array_twice_is_refused(tmp_path):
  with pytest.warns(UserWarning, match="Duplicate name"), zipfile.ZipFile(tmp_path / "x.npz", "w") as file:
    for content in (of_array(PIXELS), of_array(PIXELS + 1)):
      file.writestr("images.npy", content)
  with pytest.raises(ValueError, match="two arrays 'images'"):
    load(tmp_path / "x.npz", "official/all")


def test_a_cache_that_claims_too_much_is_made_anew(tmp_path):
  few = of_array(np.arange(2))
  for images, texts in ((of_header((10**6, 10**6, 1000)), "{}"), (of_array(PIXELS), DEEP)):
    path = archive(tmp_path / "x.npz", images=images, labels=few, texts=of_array(np.array(texts)))
    with pytest.warns(UserWarning, match="cannot be read and is rebuilt"):
      assert cache.read(path) is None
  with pytest.warns(UserWarning, match="a FIFO"):
    assert cache.read(irregular(tmp_path / "y.npz", "fifo")) is None


# JSON that is nested too deeply.


def test_json_that_is_nested_too_deeply_is_one_line(tmp_path):
  (tmp_path / "captions.jsonl").write_text(DEEP)
  with pytest.raises(ValueError, match=r"captions.jsonl, line 1' is not a JSON file: it is nested too deeply"):
    load_captioned(tmp_path / "captions.jsonl")
  (tmp_path / "vocab.json").write_text(DEEP)
  (tmp_path / "merges.txt").write_text("a b")
  with pytest.raises(ValueError, match=r"vocab.json' is not a JSON file: it is nested too deeply"):
    load_tokenizer(tmp_path)
  (tmp_path / "made" / "1.0.0").mkdir(parents=True)
  for unreadable, said in (
    ("features.json", "nested too deeply"),
    ("dataset_info.json", "nested too deeply"),
  ):
    for name in ("features.json", "dataset_info.json"):
      (tmp_path / "made" / "1.0.0" / name).write_text(DEEP if name == unreadable else "{}")
    with pytest.raises(ValueError, match=rf"is not as TFDS writes it: '{unreadable}' is not a JSON file: it is {said}"):
      load("made", data_dir=tmp_path)
