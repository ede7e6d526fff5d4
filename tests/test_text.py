"""Tokens: any text has some, its end survives, what is saved is read; others' vocabularies are read as they are."""

import gzip
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as Encoding
from tokenizers import models

from metajax.data import Tokenizer, load_tokenizer, train_tokenizer
from metajax.data.text.tokenizer import END, START, clean
from metajax.data.text.tokenizer_files import CLIP_MERGES, bytes_to_unicode

CORPUS = ["a brown dog runs", "a dog and a brown cat", "LATIN SMALL LETTER E WITH CARON", "ein Hund läuft 走る"] * 5
tokenizer = train_tokenizer(CORPUS, 300)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.text(st.characters()), max_size=3), st.integers(2, 40))
def test_any_text_has_a_start_one_end_and_then_padding_alone(texts, length):
  tokens = tokenizer(texts, length)
  assert tokens.shape == (len(texts), length) and tokens.dtype == np.int32
  for row, ids in zip(tokens, tokenizer.ids(texts), strict=True):
    end = row.tolist().index(tokenizer.end)
    assert end == min(len(ids) + 1, length - 1)
    assert row[0] == tokenizer.start and row[1:end].tolist() == ids[: length - 2] and not row[end + 1 :].any()
    assert (row == tokenizer.end).sum() == 1 and row.min() >= 0 and row.max() < tokenizer.vocab_size


@settings(max_examples=200, deadline=None)
@given(st.text(st.characters()))
def test_a_text_comes_back_but_for_case_and_spaces(text):
  assert tokenizer.text(tokenizer([text], 4 * len(text.encode("utf-8", "replace")) + 2)[0]) == clean(text)


def test_special_tokens_that_are_written_out_are_words():
  for text in (END, f"a {START} b"):
    assert not {tokenizer.start, tokenizer.end} & set(tokenizer.ids([text])[0])


def test_a_corpus_gives_the_same_tokens_again_and_frequent_words_are_one():
  again = train_tokenizer(iter(CORPUS), 300)
  np.testing.assert_array_equal(again(CORPUS), tokenizer(CORPUS))
  assert len(tokenizer.ids(["a dog"])[0]) == 2 and tokenizer.vocab_size == 300
  assert train_tokenizer(["ab"], 4096).vocab_size == 256 + 1 + 2


def test_what_is_saved_is_what_is_read(tmp_path):
  path = tmp_path / "tokenizer.json"
  tokenizer.save(path)
  found = load_tokenizer(path)
  texts = ["a brown dog 走る", END, "\ud800"]
  np.testing.assert_array_equal(found(texts), tokenizer(texts))
  assert [file.name for file in tmp_path.iterdir()] == [path.name] and json.loads(path.read_text())
  np.testing.assert_array_equal(load_tokenizer(tmp_path)(texts), tokenizer(texts))


def test_clips_files_give_its_tokens(tmp_path):
  """Bytes, bytes that end a word, merges in their order, start and end (arXiv:2103.00020, its released code)."""
  merges = ["d o", "do g</w>", "c a", "ca t</w>"]
  symbols = list(bytes_to_unicode().values())
  vocabulary = [*symbols, *(s + "</w>" for s in symbols), "do", "dog</w>", "ca", "cat</w>", START, END]
  (tmp_path / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(vocabulary)}))
  (tmp_path / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]))
  with gzip.open(tmp_path / "bpe.txt.gz", "wt", encoding="utf-8") as file:
    file.write("\n".join(['"bpe_simple_vocab_16e6.txt#version: 0.2', *merges]) + "\n")
  place = vocabulary.index
  expected = [place(START), place("dog</w>"), place("'"), place("s</w>"), place("cat</w>"), place("!</w>"), place(END)]
  for path in (tmp_path, tmp_path / "bpe.txt.gz"):
    found = load_tokenizer(path)
    assert found(["Dog's  CAT!"], 9).tolist() == [[*expected, 0, 0]]
    assert found.text(found(["naïve 走る cat"])[0]) == "naïve 走る cat"
  assert CLIP_MERGES + 512 + 2 == 49408


@pytest.mark.parametrize(
  ("files", "said"),
  [
    ({}, "expected tokenizer.json, or vocab.json and merges.txt, in"),
    ({"tokenizer.json": "{"}, "is not a tokenizer's JSON file"),
    ({"vocab.json": "[", "merges.txt": "a b"}, "vocab.json' is not a JSON file"),
    ({"vocab.json": '{"a": "b"}', "merges.txt": "a b"}, "is not a vocabulary: expected a number for each token"),
    ({"vocab.json": "{}", "merges.txt": "a b c"}, "expected two tokens a line"),
    ({"vocab.json": "{}", "merges.txt": "a b"}, "holds no byte-pair encoding"),
  ],
)
def test_files_that_are_no_tokenizer_are_refused(tmp_path, files, said):
  for name, content in files.items():
    (tmp_path / name).write_text(content)
  with pytest.raises((ValueError, FileNotFoundError), match=said):
    load_tokenizer(tmp_path)


def test_arguments_out_of_range_are_refused(tmp_path):
  with pytest.raises(ValueError, match="at least 258 tokens, 256 bytes and 2, got 257"):
    train_tokenizer(CORPUS, 257)
  with pytest.raises(ValueError, match="max_length of at least 2, the start and the end of text, got 1"):
    tokenizer(["a"], 1)
  with pytest.raises(TypeError, match="expected a sequence of texts, got 'a dog'"):
    tokenizer("a dog")
  with pytest.raises(TypeError, match=r"expected a sequence of texts, got \['int'\]"):
    tokenizer(["a", 1])
  with pytest.raises(ValueError, match=r"ends with '<\|startoftext\|>' and '<\|endoftext\|>'"):
    Tokenizer(Encoding(models.BPE({"a": 0, "b": 1}, [])))
  with pytest.raises(FileNotFoundError, match="which does not exist"):
    load_tokenizer(tmp_path / "none.json")
