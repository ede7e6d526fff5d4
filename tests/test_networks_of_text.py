"""Text towers and CLIP's weights: causal, read at the end of text, of the published sizes; nothing is unpickled."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from metajax import Pair
from metajax.compose import chunked
from metajax.networks import clip_towers, load_clip, save_clip, text_transformer
from metajax.networks.clip_towers import PUBLISHED, Towers
from metajax.networks.pretrained import DEVIATION, MEAN
from metajax.networks.transformer import CLIP, Size

VOCABULARY, END = 30, 29
TINY = Towers(Size(24, 2, 3), 4, 8, Size(16, 2, 2), 10, VOCABULARY, 9)


@pytest.fixture(scope="module")
def text():
  network = text_transformer(VOCABULARY, Size(16, 2, 2), 9, outputs=5)
  params, state = network.init(jax.random.key(0), jnp.zeros((1, 9), jnp.int32))
  assert state == {}
  return lambda tokens: np.asarray(network.apply(params, {}, jnp.asarray(tokens, jnp.int32), train=False)[0])


def test_what_follows_the_end_of_text_has_no_say_and_short_rows_are_the_same(text):
  tokens = np.array([[28, 3, 4, END, 0, 0, 0, 0, 0], [28, 7, 8, 9, 10, END, 0, 0, 0]])
  other = np.where(np.arange(9) > np.array([[3], [5]]), 17, tokens)
  assert text(tokens).shape == (2, 5)
  np.testing.assert_allclose(text(other), text(tokens), atol=1e-6)
  np.testing.assert_allclose(text(tokens[:, :6]), text(tokens), atol=1e-6)
  np.testing.assert_allclose(text(np.where(other == 17, END, other)), text(tokens), atol=1e-6)  # the first end counts


def test_every_token_before_the_end_has_a_say(text):
  tokens = np.array([[28, 3, 4, 5, END]])
  for i in range(4):
    assert np.abs(text(np.where(np.arange(5) == i, 11, tokens)) - text(tokens)).max() > 1e-4
  assert np.abs(text(tokens[:, [0, 2, 1, 3, 4]]) - text(tokens)).max() > 1e-4


def test_chunks_give_the_same_gradient():
  network = text_transformer(VOCABULARY, Size(16, 1, 2), 9)
  tokens = np.random.default_rng(0).integers(0, END, (8, 9))
  params, _ = network.init(jax.random.key(0), tokens)
  loss = lambda n: jax.jit(jax.grad(lambda p: jnp.square(n.apply(p, {}, tokens, train=True)[0] - 1).mean()))(params)
  jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-6), loss(chunked(network, 2)), loss(network))


def shapes(towers):
  made, key = clip_towers(towers), jax.random.key(0)
  pictures = jax.ShapeDtypeStruct((1, towers.pixels, towers.pixels, 3), jnp.float32)
  tokens = jax.ShapeDtypeStruct((1, towers.length), jnp.int32)
  picture, text = (jax.eval_shape(n.init, key, x)[0] for n, x in zip(made, (pictures, tokens), strict=True))
  return {"picture": picture, "text": text, "log_scale": jax.ShapeDtypeStruct((), jnp.float32)}


@pytest.mark.parametrize(
  ("name", "published"),
  [("ViT-B/32", 151277313), ("ViT-B/16", 149620737), ("ViT-L/14", 427616513), ("ViT-L/14@336px", 427944193)],
)
def test_a_published_clip_has_the_published_number_of_parameters(name, published):
  assert sum(np.prod(x.shape, dtype=int) for x in jax.tree.leaves(shapes(PUBLISHED[name]))) == published


@pytest.fixture(scope="module")
def params():
  random = np.random.default_rng(0)
  return jax.tree.map(lambda x: jnp.asarray(random.normal(size=x.shape), jnp.float32), shapes(TINY))


def features(networks: Pair, params, mean=0.0, deviation=1.0):
  pictures = (np.random.default_rng(1).random((2, 8, 8, 3)).astype(np.float32) - mean) / deviation
  tokens = np.array([[28, 3, END, 0], [28, 5, 6, END]])
  run = lambda network, params, x: np.asarray(network.apply(params, {}, x, train=False)[0])
  return run(networks.first, params["picture"], pictures), run(networks.second, params["text"], tokens)


def test_what_is_saved_is_read_to_the_bit(tmp_path, params):
  details = CLIP._replace(activation="gelu", epsilon=1e-6)
  save_clip(tmp_path / "saved", params, TINY, details)
  found = load_clip(tmp_path / "saved")
  assert (found.towers, found.details) == (TINY, details)
  jax.tree.map(np.testing.assert_array_equal, found.params, params)
  assert sorted(path.name for path in (tmp_path / "saved").iterdir()) == ["config.json", "model.safetensors"]
  alone = load_clip(tmp_path / "saved" / "model.safetensors")  # the configuration beside it is read too
  assert (alone.towers, alone.details) == (TINY, details)
  plain = clip_towers(TINY, details=details)
  agree = lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-4)
  jax.tree.map(
    agree, features(found.networks, params), features(plain, params, np.float32(MEAN), np.float32(DEVIATION))
  )
  (tmp_path / "saved" / "preprocessor_config.json").write_text('{"image_mean": [0, 0, 0.5], "image_std": [1, 1, 2]}')
  other = load_clip(tmp_path / "saved").networks
  jax.tree.map(agree, features(other, params), features(plain, params, np.float32([0, 0, 0.5]), np.float32([1, 1, 2])))


def test_several_files_and_other_names_are_the_same_weights(tmp_path, params):
  """Split as Hugging Face splits large models; and by OpenAI's names, with one array for three projections."""
  save_clip(tmp_path / "one", params, TINY)
  whole = load_file(tmp_path / "one" / "model.safetensors")
  (tmp_path / "two").mkdir()
  (tmp_path / "two" / "config.json").write_text((tmp_path / "one" / "config.json").read_text())
  names = sorted(whole)
  index = {name: f"model-{i % 2}.safetensors" for i, name in enumerate(names)}
  for file in set(index.values()):
    save_file({name: whole[name] for name in names if index[name] == file}, tmp_path / "two" / file)
  (tmp_path / "two" / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
  jax.tree.map(np.testing.assert_array_equal, load_clip(tmp_path / "two").params, params)

  theirs = openai_names(whole)
  save_file(theirs, tmp_path / "open_clip_model.safetensors")
  found = load_clip(tmp_path / "open_clip_model.safetensors")
  assert found.towers.picture.heads == 1 and found.details == CLIP  # narrow, so one head of 64 at most
  same = lambda x, y: np.testing.assert_array_equal(np.reshape(x, np.shape(y)), y)
  jax.tree.map(same, found.params, params)


def openai_names(tensors):
  table = {
    "vision_model.embeddings.class_embedding": "visual.class_embedding",
    "vision_model.embeddings.position_embedding.weight": "visual.positional_embedding",
    "vision_model.embeddings.patch_embedding.weight": "visual.conv1.weight",
    "vision_model.pre_layrnorm": "visual.ln_pre",
    "vision_model.post_layernorm": "visual.ln_post",
    "vision_model.encoder.layers": "visual.transformer.resblocks",
    "text_model.embeddings.token_embedding.weight": "token_embedding.weight",
    "text_model.embeddings.position_embedding.weight": "positional_embedding",
    "text_model.final_layer_norm": "ln_final",
    "text_model.encoder.layers": "transformer.resblocks",
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "self_attn": "attn",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
  }
  found = {"visual.proj": tensors["visual_projection.weight"].T.copy()}
  found["text_projection"] = tensors["text_projection.weight"].T.copy()
  for name, x in tensors.items():
    if "projection.weight" in name:
      continue
    for theirs, new in table.items():
      name = name.replace(theirs, new)
    if ".q_proj." in name:
      layer, kind = name.split(".q_proj.")
      whole = layer.replace("visual.transformer.resblocks", "vision_model.encoder.layers")
      whole = whole.replace("transformer.resblocks", "text_model.encoder.layers").replace(".attn", ".self_attn")
      found[f"{layer}.in_proj_{kind}"] = np.concatenate([tensors[f"{whole}.{part}_proj.{kind}"] for part in "qkv"])
    elif ".k_proj." not in name and ".v_proj." not in name:
      found[name] = x
  return found


def test_files_that_are_no_clip_are_refused_and_pickles_never_read(tmp_path, params):
  save_clip(tmp_path / "whole", params, TINY)
  path = tmp_path / "whole" / "model.safetensors"
  (tmp_path / "model.pt").write_bytes(b"\x80\x04.")
  (tmp_path / "half.safetensors").write_bytes(path.read_bytes()[:-10])
  save_file({"weight": np.ones(3, np.float32)}, tmp_path / "other.safetensors")
  (tmp_path / "empty").mkdir()
  for given, said in (
    ("model.pt", "expected a .safetensors file, got .*model.pt.*: other formats may run code"),
    ("half.safetensors", "no whole safetensors file"),
    ("other.safetensors", "got none named"),
    ("empty", "expected model.safetensors in"),
    ("none.safetensors", "there is no file or folder"),
  ):
    with pytest.raises((ValueError, FileNotFoundError), match=said):
      load_clip(tmp_path / given)
  config = json.loads((tmp_path / "whole" / "config.json").read_text())
  config["text_config"]["eos_token_id"] = 7
  (tmp_path / "whole" / "config.json").write_text(json.dumps(config))
  with pytest.raises(ValueError, match="expected the end of text to be token 29, the last one, got 7"):
    load_clip(tmp_path / "whole")
  with pytest.raises(ValueError, match="got none named"):
    save_clip(tmp_path / "new", {"picture": {}}, TINY)
  assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
  ("make", "said"),
  [
    (lambda: text_transformer(1), "a vocabulary and a length of at least 2, got 1 and 77"),
    (lambda: text_transformer(9, Size(10, 1, 3)), "of a width that the heads divide"),
    (lambda: text_transformer(9, outputs=0), "at least 1 output, or None, got 0"),
    (lambda: text_transformer(9, dropout=1.0), "a dropout of at least 0 and below 1, got 1.0"),
    (lambda: clip_towers("ViT-X"), "expected one of 'ViT-B/32'"),
    (
      lambda: text_transformer(9, Size(8, 1, 1), 4).init(jax.random.key(0), jnp.zeros((2, 5), jnp.int32)),
      r"of at most 4 tokens, got int32 \[2, 5\]",
    ),
    (
      lambda: text_transformer(9, Size(8, 1, 1), 4).init(jax.random.key(0), jnp.zeros((2, 3))),
      r"expected integer tokens \[n, tokens\], .*got float32 \[2, 3\]",
    ),
  ],
)
def test_arguments_out_of_range_are_refused(make, said):
  with pytest.raises(ValueError, match=said):
    make()


def test_features_agree_with_transformers(tmp_path):
  torch = pytest.importorskip("torch", reason="the peer is of an extra")
  transformers = pytest.importorskip("transformers", reason="the peer is of an extra")
  text = {"hidden_size": 48, "intermediate_size": 192, "num_hidden_layers": 3, "num_attention_heads": 4}
  text |= {"vocab_size": 99, "max_position_embeddings": 20, "eos_token_id": 98, "bos_token_id": 97}
  vision = {"hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 8}
  vision |= {"image_size": 32, "patch_size": 8}
  config = transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=32)
  torch.manual_seed(0)
  model = transformers.CLIPModel(config).eval()
  with torch.no_grad():
    for parameter in model.parameters():
      parameter += 0.05 * torch.randn_like(parameter)
  model.save_pretrained(tmp_path / "theirs")
  found = load_clip(tmp_path / "theirs")
  random = np.random.default_rng(0)
  pictures = random.random((4, 32, 32, 3)).astype(np.float32)
  normal = (pictures - np.float32(MEAN)) / np.float32(DEVIATION)
  tokens = random.integers(1, 97, (4, 20)).astype(np.int32)
  tokens[np.arange(4), [5, 19, 8, 2]] = 98
  given = {"input_ids": torch.tensor(tokens).long(), "pixel_values": torch.tensor(normal.transpose(0, 3, 1, 2))}
  unit = lambda x: x / np.linalg.norm(x, axis=-1, keepdims=True)

  def agrees(theirs):
    with torch.no_grad():
      expected = theirs(**given)
    for network, name, x, y in (
      (found.networks.first, "picture", pictures, expected.image_embeds),
      (found.networks.second, "text", tokens, expected.text_embeds),
    ):
      ours = unit(np.asarray(network.apply(found.params[name], {}, x, train=False)[0]))
      np.testing.assert_allclose(ours, y.numpy(), atol=1e-4)

  agrees(model)
  save_clip(tmp_path / "ours", found.params, found.towers, found.details)
  agrees(transformers.CLIPModel.from_pretrained(tmp_path / "ours").eval())
