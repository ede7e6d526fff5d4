"""Images as published networks want them: their publishers' configurations, and the pixels of their own code."""

import numpy as np
import published_clips as published
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from metajax.data import load, load_captioned, preprocess
from metajax.data.files import lazy_images
from metajax.data.files.image_file import UnreadableImage, read_image
from metajax.networks.checkpoints.preprocessing import at_size, of_hugging_face, of_open_clip
from metajax.types import Preprocessing

CLIP = {"image_processor_type": "CLIPImageProcessor", "size": {"shortest_edge": 8}, "crop_size": 8}
OLD = {"feature_extractor_type": "CLIPFeatureExtractor", "size": 11, "crop_size": 8, "resample": 2}
SIGLIP = {"image_processor_type": "SiglipImageProcessor", "size": {"height": 8, "width": 8}, "do_convert_rgb": None}
FILLED = {"resize_mode": "longest", "fill_color": 77}
# What `transformers` 5.24 and open_clip 3.3 make of `published.photo(height, width)`: the reds of the rows 0 and 3.
THEIRS = {
  "shortest side, cropped": (
    of_hugging_face(CLIP, ""),
    (30, 45),
    [[148, 138, 78, 134, 215, 174, 135, 218], [145, 134, 83, 134, 211, 172, 143, 217]],
  ),
  "resized to more than is kept, bilinear": (
    of_hugging_face(OLD, ""),
    (30, 45),
    [[132, 109, 108, 148, 185, 190, 160, 167], [146, 91, 92, 147, 202, 201, 141, 150]],
  ),
  "squashed": (
    of_hugging_face(SIGLIP, ""),
    (30, 45),
    [[26, 121, 118, 116, 205, 145, 231, 226], [34, 120, 118, 119, 200, 150, 228, 226]],
  ),
  "longest side, filled": (
    of_open_clip(FILLED, 8, ""),
    (45, 31),
    [[77, 42, 101, 130, 110, 179, 171, 77], [77, 79, 93, 111, 140, 153, 176, 77]],
  ),
  "shortest side, bilinear, an odd rest": (
    of_open_clip({"interpolation": "bilinear"}, 8, ""),
    (45, 31),
    [[65, 85, 107, 121, 126, 145, 164, 173], [42, 70, 131, 123, 101, 153, 192, 164]],
  ),
}


@pytest.mark.parametrize("name", THEIRS)
def test_images_are_those_of_the_publishers_own_code(name):
  how, shape, reds = THEIRS[name]
  ours = preprocess(published.photo(*shape), how)
  assert ours.shape == (8, 8, 3) and ours.dtype == np.uint8
  assert np.abs(np.int32(ours[[0, 3], :, 0]) - reds).max() <= 2


def test_an_odd_rest_is_cut_off_as_each_publisher_rounds():
  wide = np.zeros((8, 11, 3), np.uint8) + np.arange(11, dtype=np.uint8)[:, None]
  first = lambda middle: preprocess(wide, Preprocessing(8, middle=middle))[0, 0, 0]
  assert (first("floor"), first("even")) == (1, 2)


def test_an_image_smaller_than_what_is_kept_has_black_around_it():
  found = preprocess(np.full((5, 5), 200, np.uint8), Preprocessing(9, side=6))
  assert (found[1:7, 1:7] == 200).all() and found.sum() == 200 * 36 * 3


@pytest.mark.parametrize(
  ("config", "expected"),
  [
    ({}, Preprocessing(224)),  # all by default
    (CLIP | {"size": 8, "image_std": None}, Preprocessing(8)),
    (OLD, Preprocessing(8, side=11, interpolation="bilinear")),
    (SIGLIP, Preprocessing(8, "squash", mean=(0.5,) * 3, deviation=(0.5,) * 3)),
    (SIGLIP | {"image_mean": 0.25}, Preprocessing(8, "squash", mean=(0.25,) * 3, deviation=(0.5,) * 3)),
    (SIGLIP | {"do_normalize": False}, Preprocessing(8, "squash", mean=(0.0,) * 3, deviation=(1.0,) * 3)),
    (
      SIGLIP | {"do_rescale": False, "image_mean": [51, 102, 153], "image_std": [255] * 3},
      Preprocessing(8, "squash", mean=(0.2, 0.4, 0.6), deviation=(1.0,) * 3),
    ),
    (
      {"image_processor_type": "ViTImageProcessorFast", "size": 8},
      Preprocessing(8, "squash", interpolation="bilinear", mean=(0.5,) * 3, deviation=(0.5,) * 3),
    ),
  ],
)
def test_a_processors_configuration_is_read_with_its_defaults(config, expected):
  assert of_hugging_face(config, "file") == expected


def test_open_clips_defaults_are_read_and_another_size_keeps_its_share():
  assert of_open_clip({}, 32, "file") == Preprocessing(32, middle="even")
  how = of_open_clip({"size": 224, "mean": 0.5, "interpolation": "random", "resize_mode": None}, 32, "file")
  assert how == Preprocessing(32, mean=(0.5,) * 3, middle="even")
  assert at_size(Preprocessing(224, side=256), 448) == Preprocessing(448, side=512)


@pytest.mark.parametrize(
  ("config", "said"),
  [
    ({"image_processor_type": "LlavaImageProcessor"}, "image_processor_type in 'file' .*got 'LlavaImageProcessor'"),
    ({"image_processor_type": 3}, "image_processor_type in 'file' to be a text, got 3"),
    ({"do_resize": False}, "do_resize and no do_pad in 'file', got False and False"),
    ({"do_pad": True}, "do_resize and no do_pad in 'file', got True and True"),
    ({"do_center_crop": False}, "become square in 'file'"),
    ({"do_center_crop": "no"}, "do_center_crop in 'file' to be True or False, got 'no'"),
    ({"size": {"longest_edge": 224}}, "size of a square in 'file'.*longest_edge"),
    ({"size": {"height": 224, "width": 336}}, "size of a square in 'file'"),
    ({"size": {"shortest_edge": "224"}}, "size.shortest_edge in 'file' to be a whole number .*got '224'"),
    ({"size": True}, "size in 'file' to be a whole number .*got True"),
    ({"crop_size": [8, 8, 8]}, "crop_size of a square in 'file'"),
    ({"resample": 6}, "resample in 'file' to be a whole number from 0 to 5, got 6"),
    ({"image_mean": [0.5, 0.5]}, r"image_mean in 'file' of 3 colors, got \[0.5, 0.5\]"),
    ({"image_mean": ["a", 0, 0]}, "image_mean in 'file' to be from"),
    ({"image_mean": [float("nan"), 0, 0]}, "image_mean in 'file' to be from"),
    ({"image_std": [0.5, 0.0, 0.5]}, r"image_std in 'file' to be above 0, got 0.0"),
    ({"rescale_factor": 0}, "rescale_factor in 'file' to be above 0, got 0"),
  ],
)
def test_a_processor_that_is_not_done_here_is_refused_by_name(config, said):
  with pytest.raises(ValueError, match=said):
    of_hugging_face(config, "file")


@pytest.mark.parametrize(
  ("config", "said"),
  [
    ({"mode": "L"}, "preprocess_cfg.mode in 'file' .*'RGB', got 'L'"),
    ({"resize_mode": "crop"}, "'shortest', 'longest', 'squash', got 'crop'"),
    ({"interpolation": ["bicubic"]}, r"'bicubic', 'bilinear', 'random', got \['bicubic'\]"),
    ({"fill_color": 256}, "fill_color .* from 0 to 255, got 256"),
    ({"std": -1}, "preprocess_cfg.std in 'file' to be above 0, got -1"),
    ({"crop": 1}, "preprocess_cfg of fill_color, .* got 'crop'"),
  ],
)
def test_open_clips_preprocessing_of_another_kind_is_refused_by_name(config, said):
  with pytest.raises(ValueError, match=said):
    of_open_clip(config, 8, "file")


@pytest.mark.parametrize(
  ("image", "how", "error", "said"),
  [
    (np.zeros((4, 4, 3)), Preprocessing(8), ValueError, r"uint8 \[height, width, 1 or 3\], got float64 \[4, 4, 3\]"),
    (np.zeros((4, 4, 2), np.uint8), Preprocessing(8), ValueError, r"got uint8 \[4, 4, 2\]"),
    (np.zeros((0, 4), np.uint8), Preprocessing(8), ValueError, r"got uint8 \[0, 4\]"),
    (np.zeros((1, 5000), np.uint8), Preprocessing(8), ValueError, "a usual shape, got 5000 x 1 pixels"),
    (np.zeros((4, 4), np.uint8), Preprocessing(0), ValueError, "pixels to be a whole number of at least 1, got 0"),
    (np.zeros((4, 4), np.uint8), Preprocessing(8, side=2.5), ValueError, "side to be a whole number"),
    (np.zeros((4, 4), np.uint8), Preprocessing(8, "crop"), ValueError, "resize to be one of 'shortest', .*got 'crop'"),
    (np.zeros((4, 4), np.uint8), Preprocessing(8, interpolation=3), ValueError, "interpolation to be one of 'nearest'"),
    (np.zeros((4, 4), np.uint8), 8, TypeError, "preprocessing to be a Preprocessing, got 8"),
  ],
)
def test_what_cannot_be_preprocessed_is_refused(image, how, error, said):
  with pytest.raises(error, match=said):
    preprocess(image, how)


def test_a_file_is_made_ready_upright_in_rgb_and_on_white(tmp_path):
  photo, how = published.photo(), of_hugging_face(CLIP, "")
  expected = preprocess(photo, how)
  turned = Image.fromarray(np.rot90(photo))
  exif = turned.getexif()
  exif[0x0112] = 6  # lies on its side
  turned.save(tmp_path / "turned.png", exif=exif)
  read = lambda name: read_image(tmp_path / name, size=1, channels=1, preprocessing=how)
  np.testing.assert_array_equal(read("turned.png"), expected)
  Image.fromarray(photo).convert("L").save(tmp_path / "gray.png")
  assert read("gray.png").shape == (8, 8, 3)
  Image.new("RGBA", (9, 9), (255, 0, 0, 0)).save(tmp_path / "clear.png")
  assert (read("clear.png") == 255).all()
  Image.new("L", (9000, 1)).save(tmp_path / "line.png")
  with pytest.raises(UnreadableImage, match="a usual shape, got 9000 x 1 pixels"):
    read("line.png")


HOW, SHAPES = of_hugging_face(CLIP, ""), ((30, 45), (45, 31), (20, 20), (9, 40))
PHOTOS = [published.photo(*shape) for shape in SHAPES]
READY = np.stack([preprocess(photo, HOW) for photo in PHOTOS])


def folder_of(tmp_path):
  for i, photo in enumerate(PHOTOS):
    (tmp_path / f"class {i // 2}").mkdir(exist_ok=True)
    Image.fromarray(photo).save(tmp_path / f"class {i // 2}" / f"{i}.png")
  return load(f"{tmp_path}", "official/all", preprocessing=HOW)


def captions_of(tmp_path):
  for i, photo in enumerate(PHOTOS):
    Image.fromarray(photo).save(tmp_path / f"{i}.png")
  rows = "".join(f"{i}.png,number {i}\n" for i in range(len(PHOTOS)))
  (tmp_path / "captions.csv").write_text(f"path,caption\n{rows}")
  return load_captioned(f"{tmp_path}", "official/all", preprocessing=HOW)


def prepared_in(tmp_path):
  label = tfds.features.ClassLabel(names=["a", "b"])
  features = {"image": tfds.features.Image(shape=(None, None, 3), encoding_format="png"), "label": label}
  rows = {"train": [(i, {"image": photo, "label": i // 2}) for i, photo in enumerate(PHOTOS)]}
  store = tfds.dataset_builders.store_as_tfds_dataset
  store(
    "photos", version="1.0.0", features=tfds.features.FeaturesDict(features), split_datasets=rows, data_dir=tmp_path
  )
  return load("photos", "official/train", preprocessing=HOW, data_dir=str(tmp_path))


@pytest.mark.parametrize("in_memory", [True, False])
@pytest.mark.parametrize("load_all", [folder_of, captions_of, prepared_in])
def test_data_sets_are_made_ready_as_single_images_are(tmp_path, monkeypatch, load_all, in_memory):
  if not in_memory:
    monkeypatch.setattr(lazy_images, "BYTES_IN_MEMORY", 0)
  source = load_all(tmp_path)
  assert isinstance(source.images, np.ndarray) == in_memory
  tones = lambda images: sorted(image.tobytes() for image in images)  # TFDS has an order of its own
  assert tones(source.images[:]) == tones(READY)


def test_an_archive_is_made_ready_and_skipping_broken_files_verifies_as_it_reads(tmp_path, monkeypatch):
  photos = np.stack([published.photo(30, 45), published.photo(30, 45)[::-1]])
  np.savez(tmp_path / "photos.npz", images=photos, labels=[0, 1])
  found = load(f"{tmp_path}/photos.npz", "official/all", preprocessing=HOW).images
  np.testing.assert_array_equal(found, [preprocess(photo, HOW) for photo in photos])
  monkeypatch.setattr(lazy_images, "BYTES_IN_MEMORY", 0)
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
  (tmp_path / "own").mkdir()
  folder_of(tmp_path / "own")
  Image.new("L", (9000, 1)).save(tmp_path / "own" / "class 0" / "line.png")
  source = load(f"{tmp_path}/own", "official/all", preprocessing=HOW, skip_unreadable=True)
  assert len(source.unreadable) == 1 and "line.png" in source.unreadable[0]
  np.testing.assert_array_equal(source.images[:], READY)


def test_what_has_no_publisher_or_is_no_preprocessing_is_refused(tmp_path):
  for name in ("glyphs", "omniglot"):
    with pytest.raises(ValueError, match=f"expected no preprocessing for {name}"):
      load(name, preprocessing=HOW)
  with pytest.raises(TypeError, match="preprocessing to be a Preprocessing, got 224"):
    load(f"{tmp_path}", preprocessing=224)
  with pytest.raises(ValueError, match="size to be a whole number from 1 to"):
    load_captioned(f"{tmp_path}", preprocessing=Preprocessing(10**9))
