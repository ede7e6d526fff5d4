"""Every command that trains is compiled for TPUs without TPUs, on one slice and on two. It needs libtpu."""

import functools
import importlib
import importlib.util
import json

import commands
import pytest

FEW_SHOT = ("--preset", "cpu", "--filters", "4", "--meta-batch-size", "16", "--ways", "3", "--queries", "2")
NARROW = ("--width", "8", "--num-layers", "2", "--num-heads", "2", "--batch-size", "16")
SMALL = ("--batch-size", "16", "--width", "0.0625", "--size", "16")
COMMANDS = {
  **dict.fromkeys(("maml", "anil", "imaml", "maml_plus_plus", "meta_sgd", "proto_maml", "r2d2"), FEW_SHOT),
  **dict.fromkeys(("prototypical", "matching", "relation", "reptile"), FEW_SHOT),
  "cavia": ("--preset", "cpu", "--meta-batch-size", "16"),
  "supervised": ("--preset", "cpu", "--filters", "4", "--batch-size", "16"),
  "siamese": ("--preset", "paper", "--filters", "4", "--batch-size", "16"),
  "triplet": ("--preset", "cpu", "--filters", "4", "--classes", "8", "--each", "2"),
  "simclr": ("--preset", "cpu", *SMALL),
  "pretext": ("--preset", "cpu", "--task", "rotation", *SMALL),
  "clip": ("--preset", "cpu", *SMALL),
  "masked_autoencoder": ("--preset", "cpu", *NARROW),
  "image_gpt": ("--preset", "cpu", *NARROW, "--size", "8"),
  "gpt": ("--preset", "cpu", "--data", "glyphs", *NARROW),
  "bert": ("--preset", "cpu", "--data", "book.txt", "--vocab-size", "300", *NARROW),
  "sinusoid": ("--meta-batch-size", "16"),
}
pytestmark = [
  pytest.mark.slow,
  pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="libtpu is not installed"),
]


@pytest.mark.parametrize("words", [("v5e:2x4",), ("v5e:2x4", "slices=2")], ids=" ".join)
@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_is_compiled_for_slices(monkeypatch, capsys, tmp_path, name, words):
  main = functools.partial(commands.run_command, importlib.import_module(f"experiments.{name}"))
  monkeypatch.chdir(tmp_path)
  (tmp_path / "book.txt").write_text("".join(f"Verse {i}: and so it went on.\n" for i in range(200)))
  given = (*COMMANDS[name], "--compile-for", *words, "--output", str(tmp_path / "runs"))
  status, _, error = commands.run(monkeypatch, capsys, f"experiments.{name}", main, *given)
  assert status == 0, error
  (folder,) = (tmp_path / "runs").iterdir()
  for record in json.loads((folder / "projection.json").read_text()):
    assert record["fits"] and record["cycles"] > 0 and record["collective_bytes"] > 0, record
    assert record["devices"] == 8 * len(words), record
    assert name == "imaml" or not record["unknown_loops"], record  # its conjugate gradients stop by themselves
  assert (folder / "index.html").is_file()
