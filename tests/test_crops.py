"""Crops of original files: boxes as torchvision draws them, decoded alone, the same on any hosts and from any step."""

import io

import numpy as np
import pytest
from PIL import Image
from scipy.stats import ks_2samp

from metajax import Pair, data
from metajax.data.files import crops as crops_file
from metajax.data.files.crops import ATTEMPTS, DRAWS, RandomCrop, crop_boxes, read_crops
from metajax.data.files.image_file import resized
from metajax.data.files.jpeg import jpeg_header

HEIGHT, WIDTH = 375, 500


def photo(height=HEIGHT, width=WIDTH, seed=0):
  """A smooth image, which JPEG keeps almost as it is."""
  coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
  return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def encoded(image, kind="JPEG", **how):
  content = io.BytesIO()
  image.save(content, kind, **({"quality": 95} if kind == "JPEG" else {}), **how)
  return content.getvalue()


def crops(content, draws, crop):
  """The crops of one file."""
  found = np.zeros((1, crop.views, crop.size, crop.size, 3), np.uint8)
  assert not read_crops([content], draws[None], crop, 3, found)
  return found[0]


def torchvisions_box(uniform, height, width, area, aspect):
  """`RandomResizedCrop.get_params`, from its documentation, with numbers of our own in place of its generator's."""
  for i in range(ATTEMPTS):
    target = height * width * (area[0] + uniform[i] * (area[1] - area[0]))
    low, high = np.log(aspect[0]), np.log(aspect[1])
    ratio = np.exp(low + uniform[ATTEMPTS + i] * (high - low))
    w, h = round(np.sqrt(target * ratio)), round(np.sqrt(target / ratio))
    if 0 < w <= width and 0 < h <= height:
      return int(uniform[-2] * (height - h + 1)), int(uniform[-1] * (width - w + 1)), h, w
  if width / height < aspect[0]:
    h, w = round(width / aspect[0]), width
  elif width / height > aspect[1]:
    h, w = height, round(height * aspect[1])
  else:
    h, w = height, width
  return (height - h) // 2, (width - w) // 2, h, w


@pytest.mark.parametrize(("height", "width"), [(HEIGHT, WIDTH), (500, 375), (30, 400), (400, 30), (1, 1)])
@pytest.mark.parametrize("area", [(0.08, 1.0), (0.9, 1.0)])
def test_boxes_are_those_of_torchvision(height, width, area):
  draws = np.random.default_rng(0).random((200, DRAWS))
  crop = RandomCrop(area=area)
  expected = [torchvisions_box(one, height, width, area, crop.aspect) for one in draws]
  np.testing.assert_array_equal(crop_boxes(draws, height, width, crop), expected)


def test_boxes_of_known_draws_are_known():
  draws = np.full((1, DRAWS), 0.5)  # area 0.54, aspect 1, in the middle
  side = round((0.54 * HEIGHT * WIDTH) ** 0.5)
  box = [(HEIGHT - side + 1) // 2, (WIDTH - side + 1) // 2, side, side]
  assert crop_boxes(draws, HEIGHT, WIDTH, RandomCrop()).tolist() == [box]
  draws[:, :ATTEMPTS], draws[:, ATTEMPTS:-2] = 1 - 1e-9, 0  # all of the area at 3:4 is higher than the image
  assert crop_boxes(draws, HEIGHT, WIDTH, RandomCrop()).tolist() == [[0, 0, HEIGHT, WIDTH]]
  assert crop_boxes(draws, 100, 400, RandomCrop()).tolist() == [[0, 133, 100, 133]]  # the widest aspect, centered
  assert crop_boxes(draws, 400, 100, RandomCrop()).tolist() == [[133, 0, 133, 100]]


def test_areas_and_aspects_of_drawn_crops_are_distributed_as_the_papers(folder):
  source = data.load(str(folder), "official/all", size=8, originals=True)
  found, images = [], source.images
  images.start_crops = lambda rows, draws, crop: (
    lambda: found.append(draws) or (np.zeros((len(rows), 1, 8, 8, 3)), rows)
  )
  stream = data.train_batches(source, batch_size=4, crop=RandomCrop(8))()
  for _ in range(500):
    next(stream)
  boxes = crop_boxes(np.concatenate(found).reshape(-1, DRAWS), HEIGHT, WIDTH, RandomCrop())
  random = np.random.default_rng(1)
  expected = [torchvisions_box(random.random(DRAWS), HEIGHT, WIDTH, (0.08, 1), (3 / 4, 4 / 3)) for _ in range(4000)]
  for of in (lambda x: x[:, 2] * x[:, 3], lambda x: x[:, 3] / x[:, 2], lambda x: x[:, 0], lambda x: x[:, 1]):
    assert ks_2samp(of(boxes), of(np.array(expected))).pvalue > 0.001


@pytest.mark.parametrize(("kind", "mode", "how"), [
  ("JPEG", "RGB", {}), ("JPEG", "RGB", {"progressive": True}), ("JPEG", "L", {}), ("JPEG", "CMYK", {}),
  ("PNG", "RGB", {}), ("PNG", "P", {}), ("WEBP", "RGB", {"lossless": True}), ("TIFF", "RGB", {}),
])  # fmt: skip
@pytest.mark.parametrize("size", [32, 224, 448])  # which shrinks, does both, and grows
def test_a_crop_is_the_resized_box_of_the_whole_image(kind, mode, how, size):
  content = encoded(photo().convert(mode), kind, **how)
  draws = np.random.default_rng(3).random((2, DRAWS))
  crop = RandomCrop(size, views=2)
  whole = Image.open(io.BytesIO(content)).convert("RGB")
  for view, (top, left, height, width) in zip(
    crops(content, draws, crop), crop_boxes(draws, HEIGHT, WIDTH, crop).tolist(), strict=True
  ):
    expected = resized(whole.crop((left, top, left + width, top + height)), crop.size)
    # At its borders a crop that is decoded alone lacks the neighbors of which chroma is interpolated.
    assert np.abs(view.astype(int) - expected).max() <= (6 if kind == "JPEG" else 0)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_crops_are_of_the_upright_image(orientation):
  exif = Image.Exif()
  exif[0x0112] = orientation
  content = encoded(photo(), exif=exif.tobytes())
  header = jpeg_header(content)
  assert header == (HEIGHT, WIDTH, 3, orientation)
  draws = np.random.default_rng(3).random((1, DRAWS))
  upright = encoded(data_upright(content), "PNG")
  (found,), (expected,) = (crops(x, draws, RandomCrop(32)).astype(int) for x in (content, upright))
  assert np.abs(found - expected).max() <= 6


def data_upright(content):
  from PIL import ImageOps

  return ImageOps.exif_transpose(Image.open(io.BytesIO(content)))


def segment(content):
  return b"\xff\xe1" + (len(content) + 2).to_bytes(2, "big") + content


def exif_of(kind, order="big"):
  """An EXIF block of orientation 6 alone: a number of two bytes, kind 3, or of four, kind 4."""
  number = lambda value, length: value.to_bytes(length, order)
  head = (b"MM" if order == "big" else b"II") + number(42, 2) + number(8, 4) + number(1, 2)
  value = number(6, 2) + b"\0\0" if kind == 3 else number(6, 4)
  return segment(b"Exif\0\0" + head + number(0x0112, 2) + number(kind, 2) + number(1, 4) + value + bytes(4))


XMP = segment(b"http://ns.adobe.com/xap/1.0/\0" + b'<rdf:Description tiff:Orientation="6"/>')


@pytest.mark.parametrize("block", [exif_of(3), exif_of(4), exif_of(3, "little"), exif_of(4, "little"), XMP])
@pytest.mark.parametrize("behind", [False, True])
def test_orientations_are_found_wherever_a_decoder_finds_them(block, behind):
  content = encoded(photo(60, 80))
  frame = content.index(b"\xff\xc0")
  at = frame + 2 + int.from_bytes(content[frame + 2 : frame + 4], "big") if behind else 2
  content = content[:at] + block + content[at:]
  assert jpeg_header(content) == (60, 80, 3, 6) and data_upright(content).size == (60, 80)


@pytest.mark.parametrize(("height", "width"), [(0, 80), (60, 0), (65500, 65500)])
def test_a_header_of_no_pixels_or_too_many_is_refused_before_anything_is_decoded(height, width, monkeypatch):
  content = bytearray(encoded(photo(60, 80)))
  at = content.index(b"\xff\xc0") + 5
  content[at : at + 4] = height.to_bytes(2, "big") + width.to_bytes(2, "big")
  monkeypatch.setattr(crops_file, "_of_jpegs", lambda *given: pytest.fail("decoded"))
  found = np.zeros((1, 1, 8, 8, 3), np.uint8)
  assert list(read_crops([bytes(content)], np.full((1, 1, DRAWS), 0.5), RandomCrop(8), 3, found)) == [0]


def test_headers_of_other_files_are_none():
  whole = encoded(photo())
  assert jpeg_header(whole) == (HEIGHT, WIDTH, 3, 1) and jpeg_header(encoded(photo().convert("L"))).components == 1
  for content in (b"", b"\xff\xd8", whole[:20], encoded(photo(), "PNG"), b"\xff\xd8" + b"\0" * 40, whole[2:]):
    assert jpeg_header(content) is None


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  home = tmp_path_factory.mktemp("photos")
  for i in range(12):
    there = home / f"class{i % 3}"
    there.mkdir(exist_ok=True)
    photo(60 + i, 80, seed=i).save(there / f"{i}.{'png' if i == 5 else 'jpg'}")
  return home


def test_batches_of_crops_are_a_function_of_the_step_and_hosts_have_shares_of_them(folder):
  source = data.load(str(folder), "official/all", size=16, originals=True)
  batches = data.train_batches(source, batch_size=8, seed=3, crop=RandomCrop(16, views=2))
  stream = batches()
  whole = [next(stream) for _ in range(4)]
  assert isinstance(whole[0].inputs, Pair) and whole[0].inputs.first.shape == (8, 16, 16, 3)
  assert whole[0].inputs.first.dtype == np.uint8 and not np.array_equal(*whole[0].inputs)
  again = next(batches(3))
  for hosts in (1, 2, 4):
    shares = [next(batches(3, (host, hosts))) for host in range(hosts)]
    for x in (whole[3], again):
      for view in range(2):
        np.testing.assert_array_equal(np.concatenate([share.inputs[view] for share in shares]), x.inputs[view])
  labels = next(data.train_batches(source, batch_size=8, seed=3)(3)).labels
  np.testing.assert_array_equal(whole[3].labels, labels)  # the same rows as without crops


def test_pairs_of_crops_and_captions_are_those_of_images_and_captions(folder):
  source = data.load(str(folder), "official/all", size=16, originals=True)
  tokenizer = data.train_tokenizer(["class"], 300)
  how = {"tokenizer": tokenizer, "batch_size": 2, "max_length": 8, "seed": 1}
  crop, plain = (next(data.image_texts(source, crop=one, **how)(5)) for one in (RandomCrop(16, (1, 1)), None))
  np.testing.assert_array_equal(crop.second, plain.second)
  assert crop.first.shape == (2, 16, 16, 3) and crop.first.dtype == np.uint8


def test_images_without_originals_are_refused(folder):
  for source in (data.load(str(folder), "official/all", size=16), data.load("glyphs", "test")):
    with pytest.raises(ValueError, match=r"with originals, as load\(\.\.\., originals=True\) gives, got"):
      data.train_batches(source, batch_size=2, crop=RandomCrop(16))
  with pytest.raises(ValueError, match="files of images, of which crops are decoded, got glyphs, which is drawn"):
    data.load("glyphs", originals=True)


@pytest.mark.parametrize(("crop", "said"), [
  (RandomCrop(0), "the crop's size"), (RandomCrop(area=(0.5, 1.5)), r"area .* got \(0.5, 1.5\)"),
  (RandomCrop(area=(0, 1)), "area"), (RandomCrop(aspect=(2, 1)), "aspect"), (RandomCrop(views=3), "views"),
])  # fmt: skip
def test_a_crop_out_of_range_is_refused(folder, crop, said):
  source = data.load(str(folder), "official/all", size=16, originals=True)
  with pytest.raises(ValueError, match=said):
    data.train_batches(source, batch_size=2, crop=crop)


def test_an_original_that_cannot_be_decoded_is_named(folder, tmp_path):
  for i in range(4):
    (tmp_path / "a").mkdir(exist_ok=True)
    (tmp_path / "b").mkdir(exist_ok=True)
    content = encoded(photo(60, 80, seed=i))
    (tmp_path / "ab"[i % 2] / f"{i}.jpg").write_bytes(content[: len(content) // 2] if i == 2 else content)
  source = data.load(str(tmp_path), "official/all", size=16, originals=True)
  with pytest.raises(ValueError, match=r"2\.jpg' cannot be read .*skip_unreadable"):
    next(data.train_batches(source, batch_size=4, crop=RandomCrop(16))())
