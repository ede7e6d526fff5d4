"""Texts as rows of tokens that lose nothing, files as they are, palettes, and the models that only count."""

import itertools

import numpy as np
import pytest

from metajax.data import (
  fit_palette,
  from_arrays,
  load_texts,
  load_tokenizer,
  token_batches,
  token_rows,
  train_tokenizer,
)
from metajax.data.text.corpus import rows_of_texts
from metajax.evaluate import bigram, dataset_log_prob, independent_pixels, ratio_with_interval

TEXTS = ("a brown dog runs over the green grass", "a dog", "", "A small  cat\nsleeps on a red chair")
tokenizer = train_tokenizer(TEXTS, 280)


@pytest.mark.parametrize("length", [1, 3, 7, 100])
def test_every_token_is_to_be_found_once_and_follows_what_it_followed(length):
  rows = token_rows(tokenizer, TEXTS, length)
  assert rows.dtype == np.int32 and rows.shape[1] == length + 1
  texts = [[tokenizer.start, *ids, tokenizer.end] for ids in tokenizer.ids(TEXTS)]
  expected = [pair for tokens in texts for pair in itertools.pairwise(tokens)]
  found = [(a, b) for row in rows.tolist() for a, b in itertools.pairwise(row) if b >= 0]
  assert found == expected
  assert ((rows[:, :-1] >= 0) | (rows[:, 1:] < 0)).all()  # nothing after padding
  assert (rows[:, 0] == tokenizer.start).sum() == len(TEXTS)


def test_parts_of_a_text_have_neither_start_nor_end():
  rows = token_rows(tokenizer, ("a brown dog",), 2, start=False)
  assert not {tokenizer.start, tokenizer.end} & set(rows.flat)
  with pytest.raises(ValueError, match="at least 2 tokens, got 1 texts, all shorter"):
    token_rows(tokenizer, ("",), 2, start=False)
  with pytest.raises(ValueError, match=r"length to be a whole number from 1 to .*, got 0"):
    token_rows(tokenizer, TEXTS, 0)


def test_verbatim_texts_come_back_character_by_character():
  verbatim = train_tokenizer(TEXTS, 280, verbatim=True)
  for text in (*TEXTS, "  Two\n\n spaces\tand A tab "):
    assert verbatim.text([*verbatim.ids([text])[0], verbatim.end]) == text


def test_one_string_and_texts_of_texts_are_no_texts():
  for texts, message in (("a dog", "one string of 5 characters"), ((("a dog",),), "expected texts, got a tuple")):
    with pytest.raises(TypeError, match=message):
      train_tokenizer(texts, 280)


def test_padding_is_no_part_of_a_text():
  assert tokenizer.text(token_rows(tokenizer, ("a dog",), 9)[0]) == "a dog"


def test_a_verbatim_tokenizer_is_one_when_it_is_read_again(tmp_path):
  for verbatim in (True, False):
    train_tokenizer(TEXTS, 280, verbatim=verbatim).save(tmp_path / "tokenizer.json")
    again = load_tokenizer(tmp_path / "tokenizer.json")
    assert again.verbatim == verbatim
    assert again.text(again.ids(["Two  Words"])[0]) == ("Two  Words" if verbatim else "two words")


def test_rows_say_which_text_they_are_of():
  rows, of_text = rows_of_texts(tokenizer, TEXTS, 4)
  assert (np.diff(of_text) >= 0).all() and set(of_text) == {0, 1, 2, 3}
  np.testing.assert_array_equal(np.flatnonzero(rows[:, 0] == tokenizer.start), np.unique(of_text, return_index=True)[1])


def test_batches_are_a_function_of_the_step_and_every_row_comes_once_an_epoch():
  rows = np.arange(24).reshape(12, 2)
  batches = token_batches(rows, batch_size=4, seed=3)
  stream = batches()
  first = [next(stream) for _ in range(6)]
  np.testing.assert_array_equal(np.sort(np.concatenate(first[:3])[:, 0]), rows[:, 0])
  assert not np.array_equal(np.concatenate(first[:3]), np.concatenate(first[3:]))
  np.testing.assert_array_equal(next(batches(start=4)), first[4])
  halves = [next(batches(start=2, shard=(host, 2))) for host in range(2)]
  np.testing.assert_array_equal(np.concatenate(halves), first[2])
  with pytest.raises(ValueError, match=r"batch_size to be a whole number from 1 to .*, got 0"):
    token_batches(rows, batch_size=0)


def test_the_parts_of_a_file_are_all_of_it_cut_between_lines(tmp_path):
  text = "".join(f"Line {i}, whose length is {'x' * (i % 7)}.\n" for i in range(400))
  (tmp_path / "book.txt").write_text(text, encoding="utf-8")
  parts = [load_texts(tmp_path / "book.txt", part)[0][0] for part in ("train", "validation", "test")]
  assert "".join(parts) == text and all(part.endswith(".\n") for part in parts)
  np.testing.assert_allclose([len(part) / len(text) for part in parts], [0.8, 0.1, 0.1], atol=0.01)
  one_line = "a" * 100
  (tmp_path / "line.txt").write_text(one_line)
  assert load_texts(tmp_path / "line.txt", "test") == (("a" * 10,),)


def test_files_that_are_no_text_are_refused(tmp_path):
  for name, content, message in (
    ("broken.txt", b"abc\xff\xfe", "not UTF-8 text: byte 3 is 0xff"),
    ("marked.TXT", b"\xef\xbb\xbfabc\xff", "not UTF-8 text: byte 6 is 0xff"),
    ("empty.txt", b"", "got 0 characters"),
    ("blank.txt", b" \n\t\n", "4 characters of white space"),
    ("short.txt", b"abc", "long enough for three parts, got 3 characters"),
  ):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
      load_texts(tmp_path / name, "test")
  with pytest.raises(FileNotFoundError):
    load_texts(tmp_path / "missing.txt")
  (tmp_path / "book.md").write_text("Once upon a time.\n")
  with pytest.raises(ValueError, match=r"whose name ends with \.txt"):
    load_texts(tmp_path / "book.md")
  with pytest.raises(ValueError, match="'train', 'validation', 'test', got 'official/train'"):
    load_texts("glyphs", "official/train")


def test_a_mark_of_byte_order_is_no_character(tmp_path):
  (tmp_path / "marked.txt").write_bytes("äöü\r\n".encode("utf-8-sig") + b"more text\n" * 20)
  assert load_texts(tmp_path / "marked.txt")[0][0].startswith("äöü\r\n")


def test_names_of_characters_are_dealt_out_without_one_in_two_parts():
  parts = [[name for (name,) in load_texts("glyphs", part)] for part in ("train", "validation", "test")]
  assert len(set().union(*parts)) == sum(map(len, parts)) > 1000
  assert "LATIN SMALL LETTER A" in set().union(*parts)
  assert 7 < len(parts[0]) / len(parts[1]) < 9


def test_a_palette_holds_the_colors_that_there_are_by_brightness():
  random = np.random.default_rng(0)
  colors = np.array([[10, 10, 10], [250, 0, 0], [90, 200, 90], [255, 255, 240]], np.uint8)
  images = colors[random.integers(0, 4, (30, 6, 6))]
  source = from_arrays(images, np.repeat(np.arange(3), 10))
  np.testing.assert_allclose(fit_palette(source, 4), colors / 255, atol=1e-4)
  assert fit_palette(source, 16).shape == (4, 3)
  even = source._replace(images=np.repeat(np.repeat(images, 2, 1), 2, 2))
  np.testing.assert_allclose(fit_palette(even, 4, size=6)[[0, 3]], colors[[0, 3]] / 255, atol=0.35)
  np.testing.assert_array_equal(fit_palette(source, 3, seed=1), fit_palette(source, 3, seed=1))
  with pytest.raises(ValueError, match="at least 2"):
    fit_palette(source._replace(images=np.zeros_like(images)))
  with pytest.raises(ValueError, match="at least 2"):
    fit_palette(source, 1)


def slow_bigram(train, rows, vocab_size, k, s):
  pairs = [(a, b) for row in train.tolist() for a, b in itertools.pairwise(row) if b >= 0]
  after = [b for _, b in pairs]
  single = lambda b: (after.count(b) + s) / (len(after) + s * vocab_size)
  both = lambda a, b: (pairs.count((a, b)) + k * single(b)) / (sum(a == c for c, _ in pairs) + k)
  return np.array([[np.log(both(a, b)) if b >= 0 else 0 for a, b in itertools.pairwise(row)] for row in rows.tolist()])


def test_a_bigram_model_is_that_of_the_formula_and_its_strengths_those_of_the_validation():
  random = np.random.default_rng(0)
  train, validation, test = (random.integers(0, 6, (n, 8)) for n in (20, 5, 4))
  train[3, 4:] = test[1, 5:] = -1
  found = bigram(train, validation, test, 9)
  np.testing.assert_allclose(found.log_prob, slow_bigram(train, test, 9, *found.chosen), atol=1e-12)
  best = slow_bigram(train, validation, 9, *found.chosen).mean()
  for change in ((4, 1), (0.25, 1), (1, 4), (1, 0.25)):
    strengths = np.array(found.chosen) * change
    if strengths.min() >= 2**-6 and strengths.max() <= 2**14:
      assert slow_bigram(train, validation, 9, *strengths).mean() <= best + 1e-12


def test_a_bigram_model_is_a_distribution_over_what_may_follow():
  train = np.array([[0, 1, 2, 0, 1], [2, 2, 1, -1, -1]])
  every = np.array([[1, b] for b in range(5)])
  np.testing.assert_allclose(np.exp(bigram(train, train, every, 5).log_prob).sum(), 1, rtol=1e-9)


def test_independent_pixels_are_counted_place_by_place():
  random = np.random.default_rng(0)
  train = (random.random((500, 3)) < [0.1, 0.5, 0.9]).astype(int)
  found = independent_pixels(train, train, np.array([[1, 1, 1], [0, 0, 0]]), 3)
  np.testing.assert_allclose(np.exp(found.log_prob), [[0.1, 0.5, 0.9], [0.9, 0.5, 0.1]], atol=0.06)
  all_of_them = independent_pixels(train, train, np.array([[c] * 3 for c in range(3)]), 3)
  np.testing.assert_allclose(np.exp(all_of_them.log_prob).sum(0), 1, rtol=1e-9)


def test_a_rate_is_a_ratio_of_sums_whose_interval_covers_it():
  random = np.random.default_rng(0)
  missed = 0
  for _ in range(300):
    counts = random.integers(1, 20, 60)
    totals = counts * random.gamma(4, 0.5, 60)
    found = ratio_with_interval(totals, counts)
    missed += abs(found.mean - 2) > found.ci95
  np.testing.assert_allclose(found.mean, totals.sum() / counts.sum())
  assert 3 <= missed <= 32  # of 300 intervals of 95%
  with pytest.raises(ValueError, match="at least 2 texts"):
    ratio_with_interval([1.0], [1])


def test_what_is_foretold_of_all_rows_is_that_of_each():
  rows = np.random.default_rng(0).integers(0, 9, (7, 4))
  of = lambda params, state, x: params * x.astype(np.float32)
  np.testing.assert_array_equal(dataset_log_prob(of, np.float32(2), {}, rows, batch_size=3), 2.0 * rows)
