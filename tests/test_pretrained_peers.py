"""Published weights and images beside the publishers' own code, where it is installed; test_pretrained.py has figures
of it."""

import json
import types

import jax
import numpy as np
import published_clip_resnets
import published_clips as published
import pytest
from PIL import Image

from metajax.data import preprocess
from metajax.networks import load_clip, load_gpt2, save_clip

CONFIGS = {
  "Hugging Face, heads by default": published.HF,
  "Hugging Face, three and two heads": published.changed(
    published.changed(published.HF, "vision_config", num_attention_heads=3, hidden_act="gelu"),
    "text_config",
    num_attention_heads=2,
    hidden_act="gelu",
  ),
}
PROCESSORS = {
  "CLIP": published.PROCESSOR,
  "CLIP, larger than is kept": published.PROCESSOR | {"size": {"shortest_edge": 11}, "resample": 2},
  "SigLIP": {"image_processor_type": "SiglipImageProcessor", "size": {"height": 8, "width": 8}, "do_convert_rgb": None},
}
NO_TRANSFORMERS = "transformers and torch, the peers, are not installed"
NO_OPEN_CLIP = "open_clip and torch, the peers, are not installed"


def ours(found, images):
  given = zip(found.networks, ("image", "text"), (images, published.TOKENS), strict=True)
  run = lambda params, state: [n.apply(params[k], state[k], x, train=False)[0] for n, k, x in given]
  return jax.jit(run)(found.params, found.state)


def unit(x):
  return np.asarray(x) / np.linalg.norm(x, axis=-1, keepdims=True)


def by_transformers(folder, pixels):
  torch = pytest.importorskip("torch", reason=NO_TRANSFORMERS)
  transformers = pytest.importorskip("transformers", reason=NO_TRANSFORMERS)
  model = transformers.CLIPModel.from_pretrained(folder).eval()
  with torch.no_grad():
    found = model(input_ids=torch.tensor(published.TOKENS).long(), pixel_values=torch.tensor(pixels))
  return found.image_embeds.numpy(), found.text_embeds.numpy()


@pytest.mark.parametrize("processor", PROCESSORS)
@pytest.mark.parametrize("config", CONFIGS)
def test_images_and_features_agree_with_transformers(tmp_path, config, processor):
  transformers = pytest.importorskip("transformers", reason=NO_TRANSFORMERS)
  photos = [published.photo(*shape) for shape in ((30, 45), (45, 31))]
  folder, configs = tmp_path / "theirs", {"config": CONFIGS[config], "preprocessor_config": PROCESSORS[processor]}
  published.write(folder, published.arrays(), **configs)
  found = load_clip(folder)
  theirs = transformers.AutoImageProcessor.from_pretrained(folder)
  pixels = theirs([Image.fromarray(photo) for photo in photos], return_tensors="np")["pixel_values"]
  seen = np.stack([preprocess(photo, found.preprocessing) for photo in photos])
  unscaled = pixels.transpose(0, 2, 3, 1) * np.float32(theirs.image_std) + np.float32(theirs.image_mean)
  assert np.abs(255 * unscaled - seen).max() <= 2

  images = np.clip(unscaled, 0, 1).astype(np.float32)
  again = ((images - np.float32(theirs.image_mean)) / np.float32(theirs.image_std)).transpose(0, 3, 1, 2)
  for x, y in zip(ours(found, images), by_transformers(folder, again), strict=True):
    np.testing.assert_allclose(unit(x), y, atol=1e-4)
  save_clip(tmp_path / "ours", *found[1:5])
  for x, y in zip(ours(found, images), by_transformers(tmp_path / "ours", again), strict=True):
    np.testing.assert_allclose(unit(x), y, atol=1e-4)


@pytest.mark.parametrize(("quick", "size"), [(False, None), (True, None), (False, 12)])
def test_images_and_features_agree_with_open_clip(tmp_path, quick, size):
  torch = pytest.importorskip("torch", reason=NO_OPEN_CLIP)
  open_clip = pytest.importorskip("open_clip", reason=NO_OPEN_CLIP)
  config = json.loads(json.dumps(published.OPEN_CLIP))
  config["model_cfg"]["quick_gelu"] = quick
  config["preprocess_cfg"] = {"mean": [0.5] * 3, "std": [0.5] * 3, "resize_mode": "longest", "fill_color": 9}
  names = published.openai_names(published.arrays())
  folder = published.write(tmp_path / "theirs", names, "open_clip_model.safetensors", open_clip_config=config)
  model, prepare = open_clip.create_model_from_pretrained(f"local-dir:{folder}", force_image_size=size)
  found = load_clip(folder, image_size=size)
  photos = [published.photo(*shape) for shape in ((30, 45), (45, 31))]
  pixels = torch.stack([prepare(Image.fromarray(photo)) for photo in photos])
  seen = np.stack([preprocess(photo, found.preprocessing) for photo in photos])
  assert np.abs(255 * (pixels.numpy().transpose(0, 2, 3, 1) / 2 + 0.5) - seen).max() <= 2
  with torch.no_grad():
    theirs = model.eval().encode_image(pixels), model.encode_text(torch.tensor(published.TOKENS).long())
  for x, y in zip(ours(found, seen / np.float32(255)), theirs, strict=True):
    np.testing.assert_allclose(unit(x), unit(y.numpy()), atol=1e-4)


@pytest.mark.parametrize("size", [64, 96])
def test_features_of_a_residual_network_agree_with_open_clip(tmp_path, size):
  """open_clip interpolates positions of transformers alone; those of a residual network are given to its function."""
  torch = pytest.importorskip("torch", reason=NO_OPEN_CLIP)
  open_clip = pytest.importorskip("open_clip", reason=NO_OPEN_CLIP)
  tensors, config = published_clip_resnets.arrays(), published_clip_resnets.CONFIG
  found = load_clip(published.write(tmp_path, tensors, open_clip_config=config), image_size=size)
  model = config["model_cfg"] | {"vision_cfg": published_clip_resnets.VISION | {"image_size": size}}
  weights, name = {name: torch.tensor(x) for name, x in tensors.items()}, "visual.attnpool.positional_embedding"
  pool, visual = {"visual.positional_embedding": weights[name]}, types.SimpleNamespace(grid_size=(size // 32,) * 2)
  open_clip.model.resize_pos_embed(pool, types.SimpleNamespace(visual=visual))
  theirs = open_clip.CLIP(**model).eval()
  theirs.load_state_dict(weights | {name: pool["visual.positional_embedding"]})
  images = np.random.default_rng(3).random((2, size, size, 3)).astype("f")
  normal = (images - published_clip_resnets.MEAN) / published_clip_resnets.DEVIATION
  with torch.no_grad():
    pixels = torch.tensor(normal.astype("f").transpose(0, 3, 1, 2).copy())
    wanted = theirs.encode_image(pixels).numpy(), theirs.encode_text(torch.tensor(published.TOKENS).long()).numpy()
  for x, y in zip(ours(found, images), wanted, strict=True):
    np.testing.assert_allclose(x, y, rtol=0, atol=1e-4)


def test_a_gpt2_without_heads_in_its_configuration_agrees_with_transformers(tmp_path):
  torch = pytest.importorskip("torch", reason=NO_TRANSFORMERS)
  transformers = pytest.importorskip("transformers", reason=NO_TRANSFORMERS)
  config = transformers.GPT2Config(vocab_size=19, n_positions=9, n_embd=24, n_layer=2)
  torch.manual_seed(0)
  model = transformers.GPT2LMHeadModel(config).eval()
  model.save_pretrained(tmp_path)
  said = json.loads((tmp_path / "config.json").read_text())
  del said["n_head"]
  (tmp_path / "config.json").write_text(json.dumps(said))
  network, params = load_gpt2(tmp_path)
  tokens = np.array([[3, 1, 4, 1, 5, 9, 2, 6, 5]])
  decoded = jax.jit(lambda params: network.apply(params, {}, tokens, train=False)[0])(params)
  with torch.no_grad():
    expected = model(torch.tensor(tokens)).logits.numpy()
  np.testing.assert_allclose(decoded.features @ decoded.output_embedding.T, expected, atol=1e-4)
