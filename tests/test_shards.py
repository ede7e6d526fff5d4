"""Tar shards: indexed by headers alone, read at any place, the same at any step and on any number of hosts."""

import gc
import io
import itertools
import os
import re
import tarfile
import time
import warnings

import numpy as np
import pytest
from tar_shards import encoded, sample, write_shards, write_tar

from experiments.families.image_flags import ImageData
from experiments.families.image_text import data as clip
from metajax import data
from metajax.data._tensorflow import tf
from metajax.data.files import lazy_images
from metajax.data.shards import tar_samples
from metajax.data.shards.index import index_of
from metajax.data.shards.patterns import expand, expand_braces, is_shards
from metajax.data.shards.tar import parts

TOKENIZER = data.train_tokenizer(["caption 0123456789"], 300)
IMAGE_AND_TEXT = ((("png", "jpg"), ("txt",), ("json",)), (("image", (0,)), ("caption", (1, 2))))


def walk(path):
  """What `parts` finds in a file, and why it ended."""
  with open(path, "rb") as file:
    found = list(parts(file.fileno(), os.path.getsize(path)))
  return [member for part in found for member in zip(*part[:3], strict=True)], found[-1].damage


def pairs(pattern, count, start=0, shard=(0, 1), **how):
  how = {"batch_size": 4, "max_length": 24, "seed": 3} | how
  source = data.load_captioned(pattern, "official/all", size=8)
  return list(itertools.islice(data.image_texts(source, TOKENIZER, **how)(start, shard), count))


def numbers_of(images):
  return images[:, 0, 0, 0].astype(int).tolist()


def texts_of(pair):
  return [int(TOKENIZER.text(tokens).split()[-1]) for tokens in pair.second]


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_members_are_those_that_tarfile_finds_of_every_format_and_length_of_name(tmp_path, format):
  deep = "/".join(["folder" * 5] * 3)
  names = ["a.jpg", "b/c.d.e", "x" * 96 + ".txt", f"{deep}/{'y' * 80}.png"]
  if format != tarfile.USTAR_FORMAT:
    names += [f"{deep}/{deep}/{'z' * 200}.png", "é漢.jpg"]
  wanted = [(name, os.urandom(37 * i)) for i, name in enumerate(names)]
  wanted.insert(2, ("link.jpg", None))
  path = write_tar(tmp_path / "a.tar", wanted, format, mtime=1.5 if format == tarfile.PAX_FORMAT else 1)
  found, damage = walk(path)
  with tarfile.open(path) as file:
    there = [(info.name.encode(), info.offset_data, info.size) for info in file if info.isreg()]
  assert damage is None and found == there and len(there) == len(wanted) - 1


def test_lengths_beyond_octal_digits_are_read(tmp_path):
  path = write_tar(tmp_path / "a.tar", [("a.bin", b"x" * 700), ("b.bin", b"y")], tarfile.GNU_FORMAT)
  content = bytearray(path.read_bytes())
  content[124:136] = b"\x80" + (700).to_bytes(11, "big")  # as GNU tar writes 8 GiB and more
  content[148:156] = b" " * 8
  content[148:156] = b"%06o\0 " % sum(content[:512])
  path.write_bytes(content)
  assert [member[1:] for member in walk(path)[0]] == [(512, 700), (2048, 1)]


def test_braces_stand_for_ranges_and_lists_without_a_shell(tmp_path):
  assert expand_braces("a{008..010}{x,y}.tar") == [f"a{n}{x}.tar" for n in ("008", "009", "010") for x in "xy"]
  assert expand_braces("{9..11}.tar") == ["9.tar", "10.tar", "11.tar"]
  for bad in ("{a", "a}", "{{0..1},2}", "{0..1", "{a}", "{3..1}", "{0..99999999999}", "{0..9999}{0..9999}.tar"):
    with pytest.raises(ValueError, match="expected"):
      expand_braces(bad)
  write_shards(tmp_path / "s", shards=3, each=1)
  every = [f"{tmp_path}/s/0000{i}.tar" for i in range(3)]
  assert (
    expand(f"{tmp_path}/s/*.tar") == expand(f"{tmp_path}/s") == expand(f"{tmp_path}/s/{{00000..00002}}.tar") == every
  )
  with pytest.raises(FileNotFoundError, match=r"1 of 4 shards of .* are missing, such as '.*00003.tar'"):
    expand(f"{tmp_path}/s/{{00000..00003}}.tar")
  with pytest.raises(FileNotFoundError, match="no shard matches"):
    expand(f"{tmp_path}/s/x*.tar")
  with pytest.raises(ValueError, match=r"every shard once, got '.*' twice"):
    expand(f"{tmp_path}/s/0000{{0,0}}.tar")
  (tmp_path / "s.tar.gz").write_bytes(b"")
  with pytest.raises(ValueError, match="uncompressed"):
    expand(f"{tmp_path}/s.tar.gz")


def test_a_folder_of_images_beside_an_archive_is_no_folder_of_shards(tmp_path):
  write_tar(tmp_path / "a.tar", sample(0))
  (tmp_path / "a.parquet").write_bytes(b"")
  assert is_shards(str(tmp_path)) and expand(str(tmp_path)) == [f"{tmp_path}/a.tar"]
  (tmp_path / "cats").mkdir()
  assert not is_shards(str(tmp_path)) and not is_shards("my.target") and not is_shards(str(tmp_path / "cats"))


def test_a_sample_is_a_run_of_members_with_one_key_and_takes_at_most_64_bytes(tmp_path):
  members = [("a/1.PNG", b"i"), ("a/1.txt", b"t"), ("b/1.txt", b"u"), ("b/1.seg.png", b"s"), ("b/1.png", b"j")]
  write_tar(tmp_path / "0.tar", members)
  index = index_of("set", [str(tmp_path / "0.tar")], *IMAGE_AND_TEXT)
  assert index.lengths.tolist() == [[1, 1, -1], [1, 1, -1]] and index.left_out == ()
  assert index.starts[:, :2].tolist() == [[512, 1536], [4608, 2560]]
  write_tar(tmp_path / "1.tar", [(f"{i}.{end}", b"") for i in range(10_000) for end in ("jpg", "txt", "json")])
  index = index_of("set", [str(tmp_path / "1.tar")], *IMAGE_AND_TEXT)
  assert len(index.shards) == 10_000
  assert sum(of.nbytes for of in (index.shards, index.starts, index.lengths)) <= 64 * 10_000


def test_what_headers_show_is_left_out_and_named(tmp_path):
  whole = [*sample(0), ("1.png", encoded(1)), ("2.txt", b"bare"), *sample(3), ("00003.png", encoded(9)), *sample(0)]
  path = write_tar(tmp_path / "0.tar", whole)
  last = write_tar(tmp_path / "1.tar", [*sample(4, label=False), ("5.txt", b"five"), ("5.png", os.urandom(3000))])
  last.write_bytes(last.read_bytes()[:6000])
  (tmp_path / "2.tar").write_bytes(b"no tar at all" * 100)
  (tmp_path / "3.tar").write_bytes(b"")
  middle = write_tar(tmp_path / "4.tar", [*sample(6, label=False), *sample(7)])
  content = bytearray(middle.read_bytes())
  content[2 * 1024 + 10] ^= 1  # in the second sample's first header
  middle.write_bytes(content)
  files = [str(tmp_path / f"{i}.tar") for i in range(5)]
  index = index_of("set", files, *IMAGE_AND_TEXT)
  assert index.shards.tolist() == [0, 0, 1, 4]
  assert index.left_out == (
    f"{path}: 00003.png (twice in its sample)",
    f"{path}: 2 (no image)",
    f"{path}: 1 (no caption)",
    f"{path}: 00000 (the key occurred before)",
    f"{last}: 5.png (cut off)",
    f"{last} (cut off at byte 6,000)",
    f"{last}: 5 (no image)",
    f"{files[2]} (no tar header at byte 0)",
    f"{middle} (no tar header at byte 2,048)",
  )
  with pytest.raises(
    ValueError, match=r"samples with an image \(png, jpg\) and a caption \(txt, json\) in set, got none"
  ):
    index_of("set", files[2:3], *IMAGE_AND_TEXT)


def test_pairs_come_once_an_epoch_each_image_beside_its_own_text(tmp_path):
  batches = pairs(write_shards(tmp_path), 21)
  seen = [number for pair in batches for number in numbers_of(pair.first)]
  assert seen == [number for pair in batches for number in texts_of(pair)]
  assert sorted(seen[:42]) == sorted(seen[42:84]) == list(range(42)) and seen[:42] != seen[42:84]


def spoiled(number, members):
  """One image of every kind that cannot be read, two of them in a row, and a caption that is empty."""
  if number in (3, 41):
    return [(members[0][0], b"no image"), *members[1:]]
  if number == 4:
    return [(members[0][0], encoded(4)[:45]), *members[1:]]
  return [members[0], (members[1][0], b" \n"), members[2]] if number == 20 else members


def test_what_only_decoding_shows_is_replaced_by_the_next_with_its_text(tmp_path):
  pattern = write_shards(tmp_path, change=spoiled)
  with pytest.warns(UserWarning) as said:
    batches = pairs(pattern, 21)
  seen = [number for pair in batches for number in numbers_of(pair.first)]
  assert seen == [number for pair in batches for number in texts_of(pair)]
  assert sorted(seen[:42]) == sorted([*(set(range(42)) - {3, 4, 20, 41}), 5, 5, 21, 0])
  texts = [str(warning.message) for warning in said]
  named = [text for text in texts if "cannot be read" in text]
  assert len(named) == 4
  assert any(f"{tmp_path}/00000.tar: 00003.png cannot be read (not an image" in text for text in named)


def test_unreadable_pairs_are_counted_once_at_the_end(tmp_path):
  source = data.load_captioned(write_shards(tmp_path, change=spoiled), "official/all", size=8)
  with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    source.images[:], source.images[:]
  with pytest.warns(UserWarning, match=r"^4 samples of '.*' could not be read, and others took their place$"):
    del source
    gc.collect()


@pytest.mark.filterwarnings("ignore:.*(cannot be read|could not be read)")
@pytest.mark.parametrize("lengths", [(), (4, 12)])
def test_batches_are_the_same_from_any_step_and_on_any_number_of_hosts(tmp_path, lengths):
  def longer(number, members):
    text = members[1][1] if number % 5 else f"a much longer caption {number}".encode()
    return spoiled(number, [members[0], (members[1][0], text), members[2]])

  pattern = write_shards(tmp_path, change=longer)
  whole = pairs(pattern, 24, lengths=lengths)
  assert {pair.second.shape[1] for pair in (whole[1], whole[11])} == ({12, 24} if lengths else {24})
  for step in (1, 11, 22):
    for hosts in (1, 2, 4):
      shares = [pairs(pattern, 1, step, (host, hosts), lengths=lengths)[0] for host in range(hosts)]
      for part in (0, 1):
        np.testing.assert_array_equal(np.concatenate([share[part] for share in shares]), whole[step][part])


def test_skip_unreadable_leaves_pairs_out_that_cannot_be_decoded(tmp_path):
  source = data.load_captioned(write_shards(tmp_path, change=spoiled), "official/all", size=8, skip_unreadable=True)
  assert len(source.images) == 38 and len(source.unreadable) == 4
  captions = data.as_image_dataset(source).captions
  assert captions == tuple((f"caption {number}",) for number in numbers_of(source.images[:]))
  assert source.encoded(np.array([0, 5])) == [encoded(0), encoded(7)]


def test_parts_of_pairs_share_none_and_shards_named_by_split_are_official(tmp_path):
  pattern = write_shards(tmp_path / "a")
  parts = [data.load_captioned(pattern, part, size=8) for part in ("train", "validation", "test")]
  numbers = [numbers_of(part.images[:]) for part in parts]
  assert sorted(itertools.chain(*numbers)) == list(range(42)) and [*map(len, numbers)] == [26, 8, 8]
  assert [source.texts(np.arange(2)) for source in parts] == [[f"caption {n}" for n in some[:2]] for some in numbers]
  for part, first in (("train", 0), ("val", 10)):
    write_tar(tmp_path / "b" / f"{part}-000.tar", [m for n in range(first, first + 10) for m in sample(n)])
  held_out = data.load_captioned(f"{tmp_path}/b/*.tar", "official/validation", size=8)
  assert numbers_of(held_out.images[:]) == list(range(10, 20))
  with pytest.raises(data.NoSuchSplit):
    data.load_captioned(pattern, "official/train", size=8)


def test_a_caption_may_be_in_json_and_bad_json_is_unreadable(tmp_path):
  texts = [b'{"caption": "in json 0"}', b"{", b'{"caption": 3}', b"[]", b'{"caption": "in json 4"}']
  write_tar(
    tmp_path / "0.tar", [m for i, text in enumerate(texts) for m in ((f"{i}.png", encoded(i)), (f"{i}.json", text))]
  )
  source = data.load_captioned(f"{tmp_path}/0.tar", "official/all", size=8)
  assert source.texts(np.arange(5)) == ["in json 0", "", "", "", "in json 4"]
  with pytest.warns(UserWarning, match="its json has no 'caption'"):
    assert numbers_of(source.images[:]) == [0, 4, 4, 4, 4]
  assert source.shown(np.arange(5)).tolist() == [0, 4, 4, 4, 4]


def test_a_set_without_a_readable_image_is_refused_not_searched_for_ever(tmp_path):
  write_tar(tmp_path / "0.tar", [("a.png", b"no"), ("a.txt", b"a"), ("b.png", b"no"), ("b.txt", b"b")])
  source = data.load_captioned(f"{tmp_path}/0.tar", "official/all", size=8)
  with pytest.warns(UserWarning), pytest.raises(ValueError, match=r"got none from .*a\.png \(not an image of a format"):
    source.images[0]


def test_labels_are_numbers_names_or_json_and_classes_are_parts(tmp_path):
  pattern = write_shards(tmp_path / "a")
  whole = data.load(pattern, "official/all", size=8)
  assert whole.classes == tuple("0123456") and whole.labels.tolist() == [n % 7 for n in range(42)]
  assert numbers_of(whole.images[:]) == list(range(42)) and whole.images.shape == (42, 8, 8, 3)
  parts = [set(data.load(pattern, part, size=8).classes) for part in ("train", "validation", "test")]
  assert set.union(*parts) == set("0123456") and sum(map(len, parts)) == 7
  label = lambda n, members: [members[0], (f"{n:05d}.json", b'{"label": "%s"}' % (b"cat", b"dog")[n % 2])]
  pattern = write_shards(
    tmp_path / "b", change=lambda n, m: [m[0], (f"{n:05d}.json", b"{}")] if n == 5 else label(n, m)
  )
  source = data.load(pattern, "official/all", size=8)
  assert source.classes == ("cat", "dog") and len(source.labels) == 41
  assert source.unreadable == (f"{tmp_path}/b/00000.tar: 00005.png (its label cannot be read)",)


def test_an_unreadable_labeled_image_is_replaced_within_its_class(tmp_path):
  pattern = write_shards(tmp_path, change=spoiled)
  source = data.load(pattern, "official/all", size=8)
  with pytest.warns(UserWarning, match="cannot be read"):
    found = numbers_of(source.images[:])
  wanted = [*range(42)]
  wanted[3], wanted[4], wanted[41] = 10, 11, 6  # 41 is the last of its class, 6 the first
  assert found == wanted and [n % 7 for n in found] == source.labels.tolist()
  left = data.load(pattern, "official/all", size=8, skip_unreadable=True)
  assert numbers_of(left.images[:]) == [n for n in range(42) if n not in (3, 4, 41)] and len(left.unreadable) == 3
  batches = data.train_batches(left, batch_size=4)
  whole = next(batches(5))
  halves = [next(batches(5, (host, 2))) for host in (0, 1)]
  np.testing.assert_array_equal(np.concatenate([half.inputs for half in halves]), whole.inputs)


def test_pixels_of_a_shard_are_those_of_the_file(tmp_path):
  from PIL import Image

  from metajax.data.files.image_file import read_encoded, read_image

  noise = np.random.default_rng(0).integers(0, 256, (90, 70, 3), np.uint8)
  for kind in ("png", "jpeg", "webp"):
    file = io.BytesIO()
    Image.fromarray(noise).save(file, kind)
    (tmp_path / "a").write_bytes(file.getvalue())
    how = {"size": 16, "channels": 3}
    np.testing.assert_array_equal(read_encoded(file.getvalue(), **how), read_image(tmp_path / "a", **how))


def test_descriptors_are_few_and_a_changed_shard_stops_the_run(tmp_path, monkeypatch):
  monkeypatch.setattr(tar_samples, "_opened", tar_samples.functools.lru_cache(2)(tar_samples._File))
  source = data.load_captioned(write_shards(tmp_path, shards=12, each=3), "official/all", size=8)
  before = len(os.listdir("/proc/self/fd"))
  assert numbers_of(source.images[:]) == list(range(36))
  assert len(os.listdir("/proc/self/fd")) <= before + 2
  os.utime(tmp_path / "00004.tar", ns=(1, 1))
  with pytest.raises(ValueError, match=r"the shard '.*00004.tar' has changed since it was indexed"):
    source.images[12]


def test_a_large_set_is_indexed_once_and_again_if_a_shard_changes(tmp_path, monkeypatch):
  monkeypatch.setenv("METAJAX_CACHE", str(tmp_path / "cache"))
  monkeypatch.setattr(lazy_images, "BYTES_IN_MEMORY", 0)
  path = write_tar(tmp_path / "a.tar", [*sample(0), ("1.txt", b"")])
  first = index_of("set", [str(path)], *IMAGE_AND_TEXT)
  (stored,) = os.listdir(tmp_path / "cache")
  monkeypatch.setattr("metajax.data.shards.index._of_shard", None)
  again = index_of("set", [str(path)], *IMAGE_AND_TEXT)
  assert again.left_out == first.left_out != () and again.starts.tolist() == first.starts.tolist()
  os.utime(path, ns=(1, 1))
  with pytest.raises(TypeError):
    index_of("set", [str(path)], *IMAGE_AND_TEXT)
  assert stored.endswith(".npz")


def test_the_command_of_clip_takes_shards_and_scores_pairs_that_can_all_be_read(tmp_path, capsys):
  flags = ImageData(data=write_shards(tmp_path, change=spoiled), size=8)
  found = clip.load_data(flags, False, 0)
  clip.describe(flags, found, False)
  (test,) = found.tests
  missing = {3, 4, 20, 41} & {int(name[-9:-4]) for name in re.findall(r"\d{5}\.png", capsys.readouterr().out)}
  assert isinstance(found.train, data.ImageTexts) and len(found.train.images) == 26
  assert len(test.source.labels) == 8 - len(missing) and test.kind == "captions"
  assert numbers_of(test.source.images[:]) == [int(texts[0].split()[1]) for texts in test.source.captions]
  with pytest.raises(ValueError, match="expected no --permuted with shards"):
    clip.load_data(flags, True, 0)


def test_texts_of_shards_are_texts_of_a_corpus(tmp_path):
  texts = data.load_texts(write_shards(tmp_path, change=spoiled))
  assert len(texts) in (25, 26) and all(len(some) == 1 and some[0].startswith("caption ") for some in texts)


@pytest.mark.slow
def test_a_million_samples_are_indexed_in_thirty_seconds_of_one_core_and_the_first_batch_takes_ten(
  tmp_path, monkeypatch
):
  monkeypatch.setenv("METAJAX_CACHE", str(tmp_path / "cache"))
  image, text = encoded(7), b"a caption"
  for shard in range(100):
    names = [f"{number:09d}" for number in range(shard * 10_000, (shard + 1) * 10_000)]
    write_tar(
      tmp_path / "set" / f"{shard:05d}.tar",
      [m for name in names for m in ((f"{name}.png", image), (f"{name}.txt", text))],
    )
  tf.constant(0)  # TensorFlow is imported when it is first used
  files, start, began = expand(str(tmp_path / "set")), time.process_time(), time.perf_counter()
  index = index_of("set", files, *IMAGE_AND_TEXT)
  indexed, waited = time.process_time() - start, time.perf_counter() - began
  source = data.load_captioned(str(tmp_path / "set"), "official/all", size=8)
  start = time.process_time()
  batch = next(data.image_texts(source, TOKENIZER, batch_size=256, max_length=24)())
  first = time.process_time() - start
  print(f"{len(index.shards):,} samples: {indexed:.1f} s of CPU, {waited:.1f} s in all; first batch: {first:.1f} s")
  assert len(index.shards) == 10**6 and batch.first.shape == (256, 8, 8, 3)
  assert sum(of.nbytes for of in (index.shards, index.starts, index.lengths)) <= 64 * 10**6
  assert indexed <= 30 and first <= 10
