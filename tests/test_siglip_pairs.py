"""SigLIP's pairs of towers: features as the paper has them, every array in its place, and files that are refused."""

import json
from types import SimpleNamespace

import commands
import jax
import jax.numpy as jnp
import numpy as np
import published_encoders as published
import published_siglips as pairs
import pytest
from PIL import Image

from experiments import few_labels, zero_shot
from experiments.families.image_text.model import read_model
from metajax.data import load_siglip_tokenizer
from metajax.experiment import command_line
from metajax.learners import clip
from metajax.networks import SiglipText, Size, VisionTransformer, load_encoder, load_siglip, save_siglip, siglip_text
from metajax.networks.checkpoints import siglip_names, vit_names, vit_settings
from metajax.networks.checkpoints.encoders import network_of
from metajax.networks.checkpoints.siglip import text_network
from metajax.networks.linen.transformer import SIGLIP
from metajax.types import Pair, Preprocessing

ARRAYS = pairs.arrays()
OPEN_CLIP = {
  "model_cfg": {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 12, "timm_model_name": "vit_siglip", "timm_pool": "map", "timm_proj": "none"},
    "text_cfg": {
      **{"context_length": 7, "vocab_size": 30, "width": 12, "heads": 3, "layers": 2, "mlp_ratio": 1.67},
      **{"no_causal_mask": True, "proj_bias": True, "pool_type": "last", "norm_kwargs": {"eps": 1e-6}},
    },
  },
  "preprocess_cfg": {"mean": published.MEAN, "std": published.DEVIATION, "resize_mode": "squash"},
}


def write(folder, tensors=ARRAYS, config=pairs.CONFIG, **changes):
  return published.write(folder, tensors, config, **changes)


def features(network, params, inputs):
  return jax.jit(network.apply, static_argnames="train")(params, {}, inputs, train=False)[0]


def equal(found, wanted):
  jax.tree.map(np.testing.assert_array_equal, found, wanted)


def test_features_are_the_papers(tmp_path):
  found = load_siglip(write(tmp_path))
  image, text = found.networks
  wanted = published.siglip_features(ARRAYS, published.IMAGES), pairs.text_features(ARRAYS, pairs.TOKENS)
  given = features(image, found.params["image"], published.IMAGES), features(text, found.params["text"], pairs.TOKENS)
  for one, other in zip(given, wanted, strict=True):
    np.testing.assert_allclose(one, other, rtol=0, atol=1e-4)
  assert found.text == SiglipText(30, Size(12, 2, 3, 20), 7, 16) and found.image.details == SIGLIP
  assert found.preprocessing == Preprocessing(12, "squash", None, "bilinear", (0.4, 0.5, 0.6), (0.2, 0.3, 0.4))
  half = features(load_siglip(tmp_path, dtype=jnp.bfloat16).networks.second, found.params["text"], pairs.TOKENS)
  assert half.dtype == jnp.float32 and 1e-4 < np.abs(half - wanted[1]).max() < 0.1


def test_params_are_those_of_the_learner(tmp_path):
  found = load_siglip(write(tmp_path))
  learner, batch = clip(*found.networks, loss="siglip"), Pair(published.IMAGES, pairs.TOKENS[:2])
  wanted, state = jax.eval_shape(learner.init, jax.random.key(0), batch)
  shapes = lambda tree: jax.tree.map(lambda x: (x.shape, x.dtype), tree)
  assert shapes(found.params) == shapes(wanted) and state == {"image": {}, "text": {}}
  assert (found.params["log_scale"], found.params["bias"]) == (ARRAYS["logit_scale"][0], ARRAYS["logit_bias"][0])
  embed = jax.jit(learner.embed)
  first, second = embed(found.params, state, batch.first), embed(found.params, state, batch.second)
  np.testing.assert_allclose(np.linalg.norm(first, axis=1), 1, atol=1e-5)
  assert first.shape == second.shape == (2, 16)


def test_what_is_saved_is_loaded_to_the_bit(tmp_path):
  first = load_siglip(write(tmp_path / "first"))
  save_siglip(tmp_path / "second", *first[1:])
  second = load_siglip(tmp_path / "second")
  equal(second.params, first.params)
  assert second[2:] == first[2:]
  with pytest.raises(ValueError, match="expected a preprocessing to 12 pixels"):
    save_siglip(tmp_path, *first[1:4], Preprocessing(9))
  with pytest.raises(ValueError, match=r"SigLIP's image tower, .* got VisionTransformer.*'mean'"):
    save_siglip(tmp_path, first.params, first.image._replace(pool="mean"), *first[3:])
  with pytest.raises(ValueError, match=r"params of a SigLIP, got none named 'bias'"):
    save_siglip(tmp_path, {name: x for name, x in first.params.items() if name != "bias"}, *first[2:])


@pytest.fixture
def heads(monkeypatch):
  """As if a width of 16 told the number of heads, as published widths do."""
  monkeypatch.setitem(vit_settings.SIGLIP_HEADS, 16, 4)
  monkeypatch.setitem(vit_settings.SIGLIP_HEADS, 12, 3)


def of_open_clip(folder, section=None, **changes):
  """A folder of open_clip with other settings in a section."""
  model = OPEN_CLIP["model_cfg"]
  config = OPEN_CLIP if section is None else OPEN_CLIP | {"model_cfg": model | {section: model[section] | changes}}
  write(folder, pairs.open_clip_names(ARRAYS), None, processor=None)
  (folder / "open_clip_config.json").write_text(json.dumps(config))
  return folder


def test_open_clips_layout_holds_the_same_pair(tmp_path, heads):
  first, second = load_siglip(write(tmp_path / "first")), load_siglip(of_open_clip(tmp_path / "second"))
  equal(second.params, first.params)
  assert (second.image, second.text) == (first.image, first.text)
  assert second.preprocessing == first.preprocessing._replace(interpolation="bicubic", middle="even")
  exact = load_siglip(of_open_clip(tmp_path / "third", "text_cfg", act_kwargs={"approximate": "none"}))
  assert exact.text.details.activation == "gelu"


OTHERS = {
  "another pool": ("vision_cfg", {"timm_pool": "avg"}, "vision_cfg.timm_pool to be 'map'"),
  "another image tower": ("vision_cfg", {"timm_model_name": "eva"}, "timm_model_name of a SigLIP in .* got 'eva'"),
  "another size": ("vision_cfg", {"image_size": 16}, "expected vision_cfg.image_size to be 12"),
  "a causal text tower": ("text_cfg", {"no_causal_mask": False}, "text_cfg.no_causal_mask to be True"),
  "another width": ("text_cfg", {"width": 24}, "expected text_cfg.width to be 12"),
  "another MLP": ("text_cfg", {"mlp_ratio": 4}, "text_cfg.mlp_ratio 4 in .* arrays of 20 hidden units of width 12"),
  "heads that do not divide": ("text_cfg", {"heads": 5}, "heads that divide the text's width of 12"),
  "an unknown setting": ("text_cfg", {"scale_heads": True}, "known settings of text_cfg in .* got 'scale_heads'"),
  "an unknown argument": ("text_cfg", {"norm_kwargs": {"bias": 1}}, "norm_kwargs of eps and act_kwargs of approximate"),
}


@pytest.mark.parametrize("case", OTHERS)
def test_another_model_of_open_clip_is_refused_by_its_setting(tmp_path, heads, case):
  section, changes, said = OTHERS[case]
  with pytest.raises(ValueError, match=said):
    load_siglip(of_open_clip(tmp_path, section, **changes))


def without(name):
  return {key: x for key, x in ARRAYS.items() if key != name}


def changed(section, **values):
  return pairs.CONFIG | {section: pairs.CONFIG[section] | values}


HEAD, FIRST = "text_model.head.weight", "text_model.encoder.layers.1.mlp.fc1.weight"
REFUSED = {
  "a missing array": (without(FIRST), {}, "arrays of a SigLIP, got none named 'layer_1.hidden.weight'"),
  "a missing head": (without(HEAD), {}, "got none named 'head.weight'"),
  "a missing scale": (without("logit_scale"), {}, "got none named 'logit_scale'"),
  "a missing bias": (without("logit_bias"), {}, "got none named 'logit_bias'"),
  "a missing image array": (without("vision_model.head.mlp.fc1.bias"), {}, "got none named 'pool.hidden.bias'"),
  "another shape": (ARRAYS | {FIRST: np.zeros((20, 11), "f")}, {}, rf"'{FIRST}' to be floating \[20, 12\]"),
  "two scales": (ARRAYS | {"logit_scale": np.zeros(2, "f")}, {}, r"'logit_scale' to be floating \[\]"),
  "NaN": (ARRAYS | {FIRST: np.full((20, 12), np.nan, "f")}, {}, f"'{FIRST}' to be finite"),
  "a text array too many": (ARRAYS | {"text_model.x": np.zeros(2, "f")}, {}, "a SigLIP, got 'text_model.x' too"),
  "a head of images": (
    ARRAYS | {"vision_model.head.weight": np.zeros(2, "f")}, {}, "a SigLIP, got 'vision_model.head.weight' too",
  ),
  "an array of neither": (ARRAYS | {"x": np.zeros(2, "f")}, {}, "a SigLIP, got 'x' too"),
  "no text tower": (published.siglip() | {HEAD: np.zeros((16, 12), "f")}, {}, "got none named 'tokens.weight'"),
  "one tower": ({"vision_model.x": np.zeros(2, "f")}, {}, r"both towers of a SigLIP, .* got 'vision_model.x'"),
  "towers of two widths": (
    ARRAYS | {HEAD: np.zeros((9, 12), "f"), "text_model.head.bias": np.zeros(9, "f")}, {"projection_size": 9},
    "towers of one output width in .* got 16 and 9",
  ),
  "another width": (ARRAYS, {"hidden_size": 24}, "expected text_config.hidden_size to be 12"),
  "another output width": (ARRAYS, {"projection_size": None}, "text_config.projection_size to be 16 .* got 12"),
  "another length": (ARRAYS, {"max_position_embeddings": 64}, "max_position_embeddings to be 7"),
  "heads that do not divide": (ARRAYS, {"num_attention_heads": 5}, "heads that divide the text's width of 12"),
  "an unknown activation": (ARRAYS, {"hidden_act": "mish"}, "text_config.hidden_act in .* got 'mish'"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_a_file_of_another_network_is_refused_by_its_array_or_setting(tmp_path, case):
  tensors, change, said = REFUSED[case]
  with pytest.raises(ValueError, match=said) as error:
    load_siglip(write(tmp_path, tensors, changed("text_config", **change)))
  assert "\n" not in str(error.value)


def test_other_models_and_damaged_files_are_refused(tmp_path):
  with pytest.raises(ValueError, match="a SigLIP or a SigLIP 2 of a fixed image size, got 'siglip2'"):
    load_siglip(write(tmp_path, config=pairs.CONFIG | {"model_type": "siglip2"}))
  file = write(tmp_path) / "model.safetensors"
  content = file.read_bytes()
  file.write_bytes(content[: len(content) // 2])
  with pytest.raises(ValueError, match="is not a complete safetensors file"):
    load_siglip(tmp_path)
  with pytest.raises(FileNotFoundError, match=r"expected model\.safetensors"):
    load_siglip(tmp_path.parent)


def test_what_no_configuration_says_is_assumed_with_a_warning(tmp_path, heads):
  with pytest.warns(UserWarning, match="found no") as said:
    found = load_siglip(write(tmp_path, config=None) / "model.safetensors")
  assert len(said) == 2 and any("3 attention heads, tanh_gelu" in str(each.message) for each in said)
  assert found.text == SiglipText(30, Size(12, 2, 3, 20), 7, 16) and found.image.size.num_heads == 4


def test_images_of_another_size_take_interpolated_positions(tmp_path):
  folder = write(tmp_path)
  found = load_siglip(folder, image_size=20)
  assert found.params["image"]["positions"].shape == (25, 16)
  assert found.image.pixels == found.preprocessing.pixels == 20
  equal(found.params["image"]["positions"], load_encoder(folder, image_size=20).params["positions"])
  with pytest.raises(ValueError, match=r"images \[n, 20, 20, 3\], .* got \[2, 12, 12, 3\]"):
    found.networks.first.apply(found.params["image"], {}, published.IMAGES, train=False)
  with pytest.raises(ValueError, match="an image_size that patches of 4 pixels divide, got 21"):
    load_siglip(folder, image_size=21)


def test_pixels_after_the_last_whole_patch_are_not_seen(tmp_path):
  processor = published.PROCESSOR | {"size": {"height": 14, "width": 14}}  # as 384 pixels in patches of 14
  folder = write(tmp_path, config=changed("vision_config", image_size=14), processor=processor)
  found = load_siglip(folder)
  assert found.image.pixels == found.preprocessing.pixels == 14
  images = jnp.pad(published.IMAGES, ((0, 0), (0, 2), (0, 2), (0, 0)), constant_values=0.7)
  given = features(found.networks.first, found.params["image"], images)
  np.testing.assert_allclose(given, published.siglip_features(ARRAYS, published.IMAGES), rtol=0, atol=1e-4)
  equal(load_siglip(folder, image_size=12).params, found.params)


def test_tokens_of_a_text():
  network, tokens = siglip_text(5, Size(8, 1, 2), 4), jnp.array([[1, 2, 0, 0], [1, 2, 3, 0]])
  params, state = network.init(jax.random.key(0), tokens)
  apply = jax.jit(lambda tokens: network.apply(params, state, tokens, train=False)[0])
  assert apply(tokens).shape == (2, 8) and siglip_text(5, Size(8, 1, 2), num_outputs=3)
  assert not np.allclose(apply(tokens[:, :3])[0], apply(tokens)[0])  # padding is attended to
  assert np.isnan(apply(tokens.at[0, 1].set(5))).all(1).tolist() == [True, False]
  for wrong, said in (
    (jnp.ones((2, 5), int), r"at most 4 tokens, got int32 \[2, 5\]"),
    (jnp.ones((2, 0), int), r"at least 1 token, got \[2, 0\]"),
    (jnp.ones((2, 4)), r"expected integer tokens \[n, tokens\]"),
    (jnp.full((2, 4), 5), "tokens"),
  ):
    with pytest.raises(ValueError, match=said):
      network.apply(params, state, wrong, train=False)
  with pytest.raises(ValueError, match="a vocabulary and a length of at least 1, got 0 and 64"):
    siglip_text(0, Size(8, 1, 2))


BASE, WIDE = Size(768, 12, 12), Size(1152, 27, 16, 4304)
PUBLISHED = {
  "siglip-base-patch16-224": (BASE, 16, 224, SiglipText(32000, BASE, 64, 768), 203_155_970),
  "siglip-so400m-patch14-384": (WIDE, 14, 384, SiglipText(32000, WIDE, 64, 1152), 877_960_498),
  "siglip2-base-patch16-224": (BASE, 16, 224, SiglipText(256000, BASE, 64, 768), 375_187_970),
  "siglip2-giant-opt-patch16-384": (
    Size(1536, 40, 16), 16, 384, SiglipText(256000, WIDE, 64, 1536), 1_871_885_426,
  ),
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_pairs_have_as_many_parameters_as_published(name):
  size, patch, pixels, text, number = PUBLISHED[name]
  image = VisionTransformer(size, patch, "attention", SIGLIP, pixels)
  tables = (*vit_names.table(image), *siglip_names.text_table(text), *siglip_names.SCALARS)
  assert sum(int(np.prod(entry.shape)) for entry in tables) == number
  if "siglip-" in name:  # the networks too
    inputs = jax.ShapeDtypeStruct((1, pixels, pixels, 3), "float32"), jax.ShapeDtypeStruct((1, 64), "int32")
    towers = zip((network_of(image), text_network(text)), inputs, strict=True)
    shapes = [jax.eval_shape(network.init, jax.random.key(0), x)[0] for network, x in towers]
    assert sum(x.size for x in jax.tree.leaves(shapes)) + 2 == number  # the scale and the bias of the logits


def test_tokens_are_those_of_a_folder(tmp_path):
  words = ["cat", "dog", "don't", "dont"]
  pairs.write_tokenizer(tmp_path, words)
  tokenizer = load_siglip_tokenizer(tmp_path)
  assert tokenizer.vocab_size == 7
  found = tokenizer(["A  Cat!", "cat dog cat dog cat", "don't </s>"], 4)
  assert found.dtype == np.int32
  assert found.tolist() == [[2, 3, 1, 0], [3, 4, 3, 1], [6, 2, 1, 0]]  # the end of text is never lost
  pairs.write_tokenizer(tmp_path, words, tokenizer_class="GemmaTokenizerFast", pad_token="</s>")  # SigLIP 2 has commas
  assert load_siglip_tokenizer(tmp_path)(["Don't", "cat!"], 3).tolist() == [[5, 1, 1], [2, 1, 1]]
  assert tokenizer(["cat"]).shape == (1, 64) and tokenizer([], 3).shape == (0, 3)


def test_tokenizers_that_lack_something_are_refused(tmp_path):
  with pytest.raises(FileNotFoundError, match=r"expected tokenizer.json and .* got no tokenizer.json"):
    load_siglip_tokenizer(tmp_path)
  pairs.write_tokenizer(tmp_path, ["cat"], pad_token="<padding>")
  with pytest.raises(ValueError, match=r"expected pad_token of the vocabulary in .* got '<padding>'"):
    load_siglip_tokenizer(tmp_path)
  pairs.write_tokenizer(tmp_path, ["cat"])
  with pytest.raises(TypeError, match="expected a sequence of texts, got 'cat'"):
    load_siglip_tokenizer(tmp_path)("cat")
  (tmp_path / "tokenizer.json").write_text("{}")
  with pytest.raises(ValueError, match="is not a tokenizer's JSON file"):
    load_siglip_tokenizer(tmp_path)


def test_images_are_named_without_training(tmp_path, monkeypatch, capsys):
  folder, photos = write(tmp_path / "siglip"), tmp_path / "photos"
  pairs.write_tokenizer(folder, ["cat", "dog"])
  photos.mkdir()
  Image.fromarray((published.IMAGES[0] * 255).astype(np.uint8)).save(photos / "a.png")
  given = ("--classes", "a cat", "Dog", "--images", str(photos))
  main = lambda: command_line.command(zero_shot.main)
  status, out, error = commands.run(monkeypatch, capsys, "zero_shot", main, str(folder), *given)
  assert (status, error) == (0, "") and out.startswith("a.png  ")
  found = load_siglip(folder)
  image = np.asarray(Image.open(photos / "a.png"), np.float32)[None] / 255
  tokens = np.array([[2, 3, 1, 0, 0, 0, 0], [4, 1, 0, 0, 0, 0, 0]])
  one, names = published.siglip_features(ARRAYS, image), pairs.text_features(ARRAYS, tokens)
  unit = lambda x: x / np.linalg.norm(x, axis=1, keepdims=True)
  shares = np.exp(np.exp(found.params["log_scale"]) * unit(one) @ unit(names).T)[0]
  shares = 100 * shares / shares.sum()
  assert all(f"{name} {share:.1f}%" in out for name, share in zip(("a cat", "Dog"), shares, strict=True))
  source = SimpleNamespace(captions=None, classes=("cat", "dog"))
  rows = few_labels._tokens(read_model(folder), source, ("{}", "a {}"))  # all of their padding is kept
  assert rows.tolist()[0] == [[3, 1, 0, 0, 0, 0, 0], [2, 3, 1, 0, 0, 0, 0]]
  with pytest.raises(ValueError, match="expected --methods without coop for a SigLIP"):
    few_labels._names(read_model(folder), None, context=4)
  pairs.write_tokenizer(folder, map(str, range(pairs.VOCABULARY)))
  with pytest.raises(ValueError, match="expected a tokenizer of at most 30 tokens, got 33"):
    read_model(folder)
