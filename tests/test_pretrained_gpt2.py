"""GPT-2's published weights: Hugging Face's defaults, and what is another network or a guess is refused or said."""

import json

import numpy as np
import pytest
from safetensors.numpy import save_file

from metajax.networks import load_gpt2
from metajax.networks.checkpoints import gpt2


@pytest.fixture
def wrote(tmp_path):
  """Writes a GPT-2 of two layers of width 24, 19 tokens and 9 places."""

  def write(config=None, **changed):
    shapes = {"wte.weight": (19, 24), "wpe.weight": (9, 24), "ln_f.weight": (24,), "ln_f.bias": (24,)}
    each = {"ln_1": (24,), "attn.c_attn": (24, 72), "attn.c_proj": (24, 24), "ln_2": (24,)}
    for i in range(2):
      for name, shape in (each | {"mlp.c_fc": (24, 96), "mlp.c_proj": (96, 24)}).items():
        shapes |= {f"h.{i}.{name}.weight": shape, f"h.{i}.{name}.bias": shape[-1:]}
    arrays = {name: np.ones(shape, np.float32) for name, shape in shapes.items()}
    save_file(arrays | changed, tmp_path / "model.safetensors")
    if config is not None:
      (tmp_path / "config.json").write_text(config if isinstance(config, str) else json.dumps(config))
    return tmp_path

  return write


def heads(params):
  return params["layer_1"]["attention"]["query"]["kernel"].shape[1]


def test_without_heads_in_the_configuration_there_are_hugging_faces_12(wrote):
  assert heads(load_gpt2(wrote({}))[1]) == 12
  assert heads(load_gpt2(wrote({"n_head": 3}))[1]) == 3
  assert heads(load_gpt2(wrote({"num_attention_heads": 4, "n_embd": 24, "n_layer": 2}))[1]) == 4


def test_without_a_configuration_heads_are_a_guess_that_is_said_or_refused(wrote, monkeypatch):
  with pytest.raises(ValueError, match=r"config.json next to .*got none, .* cannot be guessed for a width of 24"):
    load_gpt2(wrote())
  monkeypatch.setattr(gpt2, "HEAD", 8)
  with pytest.warns(UserWarning, match=r"no config.json next to .*OpenAI's models, with 3 attention heads and norms'"):
    assert heads(load_gpt2(wrote())[1]) == 3


@pytest.mark.parametrize(
  ("config", "said"),
  [
    ({"n_head": 5}, r"heads that divide the width of 24, got 5 in .*config.json"),
    ({"n_head": "3"}, r"n_head in .* whole number of at least 1, got '3'"),
    ({"n_head": None}, r"n_head in .* whole number of at least 1, got None"),
    ({"layer_norm_epsilon": 0}, r"layer_norm_epsilon in .*above 0, got 0"),
    ({"n_embd": 768}, r"n_embd to be 24 in .*as the arrays have it, got 768"),
    ({"n_positions": 1024}, "n_positions to be 9"),
    ({"activation_function": "relu"}, r"activation_function 'gelu_new' in .*got 'relu'"),
    ({"scale_attn_by_inverse_layer_idx": True}, r"scale_attn_by_inverse_layer_idx False in .*got True"),
    ({"scale_attn_weights": False}, r"scale_attn_weights True in .*got False"),
    ({"model_type": "llama"}, r"model_type 'gpt2' in .*got 'llama'"),
    ([], r"expected a dict in .*config.json', got a list"),
    ("[" * 100_000, "it is nested too deeply"),
  ],
)
def test_a_configuration_of_another_network_is_refused_by_name(wrote, config, said):
  with pytest.raises(ValueError, match=said):
    load_gpt2(wrote(config))


def test_an_array_of_another_shape_or_kind_is_refused_by_name(wrote):
  for name, array, said in (
    ("h.1.mlp.c_fc.weight", np.ones((24, 72), np.float32), r"h.1.mlp.c_fc.weight of shape \[24, 96\] .*got \[24, 72\]"),
    ("wte.weight", np.ones(19, np.float32), r"wte.weight with two nonempty axes .*got \[19\]"),
    ("wpe.weight", np.ones((9, 23), np.float32), r"wpe.weight of shape \[9, 24\] .*got \[9, 23\]"),
    ("ln_f.bias", np.ones(24, np.int8), "ln_f.bias of shape .*floating, got .* of int8"),
    ("ln_f.bias", np.full(24, np.inf, np.float32), "ln_f.bias to be finite"),
  ):
    with pytest.raises(ValueError, match=said):
      load_gpt2(wrote({}, **{name: array}))
