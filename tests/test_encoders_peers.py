"""Published encoders and the publishers' own code, where it is installed; test_encoders.py has references in NumPy."""

import json
import warnings

import jax
import numpy as np
import pytest

from metajax.networks import load_encoder, load_siglip, save_encoder, save_siglip

IMAGES = np.random.default_rng(0).random((3, 16, 16, 3)).astype("f")
SIZE = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "image_size": 16, "patch_size": 4}
MLP = {"intermediate_size": 128}
GATED = {"use_swiglu_ffn": True}
TRANSFORMERS = {
  "ViT": ("ViTModel", "ViTConfig", SIZE | MLP),
  "ViT, another activation": ("ViTModel", "ViTConfig", SIZE | {"intermediate_size": 80, "hidden_act": "gelu_new"}),
  "DeiT": ("DeiTModel", "DeiTConfig", SIZE | MLP),
  "DINOv2": ("Dinov2Model", "Dinov2Config", SIZE),
  "DINOv2, SwiGLU": ("Dinov2Model", "Dinov2Config", SIZE | GATED),
  "DINOv2, registers": ("Dinov2WithRegistersModel", "Dinov2WithRegistersConfig", SIZE),
  "DINOv2, registers and SwiGLU": ("Dinov2WithRegistersModel", "Dinov2WithRegistersConfig", SIZE | GATED),
  "SigLIP, images": ("SiglipVisionModel", "SiglipVisionConfig", SIZE | {"intermediate_size": 72}),
  "SigLIP": ("SiglipModel", "SiglipConfig", {"vision_config": SIZE | MLP, "text_config": SIZE | MLP}),
  "ResNet-18": ("ResNetModel", "ResNetConfig", {"depths": [2, 2, 2, 2], "layer_type": "basic"}),
  "ResNet-50": ("ResNetModel", "ResNetConfig", {}),
}
WIDTHS = {"ResNet-18": {"hidden_sizes": [64, 128, 256, 512]}}
CLASSIFIERS = {"ViT": "ViTForImageClassification", "DINOv2": "Dinov2ForImageClassification"}
MEAN, DEVIATION = [0.4, 0.5, 0.6], [0.2, 0.3, 0.4]
PROCESSOR = {"size": {"height": 16, "width": 16}, "image_mean": MEAN, "image_std": DEVIATION}
PROCESSOR |= {"image_processor_type": "ViTImageProcessor"}
TIMM = {
  "ViT": {},
  "ViT, registers and layer scale": {"reg_tokens": 4, "init_values": 0.1, "no_embed_class": True},
  "ViT, a norm before the layers": {"pre_norm": True},
  "SigLIP": {"global_pool": "map", "class_token": False},
}


def drawn(torch, model):
  """The model with random params, statistics of batch norm included."""
  torch.manual_seed(0)
  with torch.no_grad():
    for name, x in model.state_dict().items():
      if x.is_floating_point():
        x.copy_(torch.rand_like(x) + 0.5 if "var" in name else torch.randn_like(x) * 0.3 / max(1, x.ndim - 1) ** 2)
  return model.eval()


def normal(torch, images):
  return torch.tensor(((images - MEAN) / DEVIATION).astype("f").transpose(0, 3, 1, 2).copy())


def ours(folder, images=IMAGES, **how):
  with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    found = load_encoder(folder, **how)
  return found, np.asarray(jax.jit(found.network.apply, static_argnames="train")(*found[1:3], images, train=False)[0])


def close(found, wanted):
  np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-4 * max(1.0, float(np.abs(wanted).max())))


@pytest.fixture
def peers():
  reason = "transformers and torch, the peers, are not installed"
  return pytest.importorskip("torch", reason=reason), pytest.importorskip("transformers", reason=reason)


def made(peers, name, kind=None):
  torch, transformers = peers
  model, config, said = TRANSFORMERS[name]
  config = getattr(transformers, config)(**(said | WIDTHS.get(name, {})))
  return drawn(torch, getattr(transformers, kind or model)(config))


def theirs(peers, name, model, images, **how):
  torch, _ = peers
  model = model.vision_model if name == "SigLIP" else model
  with torch.no_grad():
    found = model(normal(torch, images), **how)
  pooled = name.startswith(("SigLIP", "ResNet"))
  return (found.pooler_output if pooled else found.last_hidden_state[:, 0]).numpy().reshape(len(images), -1)


def save(model, folder, **processor):
  model.save_pretrained(folder)
  (folder / "preprocessor_config.json").write_text(json.dumps(PROCESSOR | processor))


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_features_are_those_of_transformers(peers, tmp_path, name):
  model = made(peers, name)
  save(model, tmp_path)
  found, features = ours(tmp_path)
  close(features, theirs(peers, name, model, IMAGES))
  if name not in ("DeiT", "SigLIP", "SigLIP, images"):
    again = tmp_path / "again"
    save_encoder(again, *found[1:5])
    close(ours(again)[1], features)
    read = peers[1].AutoModel.from_pretrained(again).eval()
    close(theirs(peers, name, read, IMAGES), features)


@pytest.mark.parametrize("name", [name for name in TRANSFORMERS if not name.startswith("ResNet")])
@pytest.mark.parametrize("pixels", [12, 28])
def test_other_image_sizes_are_those_of_transformers(peers, tmp_path, name, pixels):
  model, images = made(peers, name), np.random.default_rng(1).random((2, pixels, pixels, 3)).astype("f")
  save(model, tmp_path)
  how = {} if name.startswith("DINOv2") else {"interpolate_pos_encoding": True}
  close(ours(tmp_path, images, image_size=pixels)[1], theirs(peers, name, model, images, **how))


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_a_classifier_is_left_out_and_named(peers, tmp_path, name):
  model = made(peers, name, CLASSIFIERS[name])
  save(model, tmp_path)
  found, features = ours(tmp_path)
  close(features, theirs(peers, name, getattr(model, TRANSFORMERS[name][0].lower().removesuffix("model")), IMAGES))
  assert {"classifier.bias", "classifier.weight"} <= set(found.unused)


@pytest.mark.parametrize("name", TIMM)
def test_features_are_those_of_timm(tmp_path, name):
  reason = "timm and torch, the peers, are not installed"
  torch, timm = pytest.importorskip("torch", reason=reason), pytest.importorskip("timm", reason=reason)
  from safetensors.torch import save_file

  how = {"global_pool": "token", "num_classes": 7} | TIMM[name]
  if name == "SigLIP":
    how["act_layer"] = "gelu_tanh"
  model = timm.models.vision_transformer.VisionTransformer(16, 4, embed_dim=128, depth=2, num_heads=2, **how)
  save_file(drawn(torch, model).state_dict(), tmp_path / "model.safetensors")
  config = {"architecture": "vit_siglip" if name == "SigLIP" else "vit"}
  config["pretrained_cfg"] = {"mean": MEAN, "std": DEVIATION, "crop_pct": 1.0, "input_size": [3, 16, 16]}
  (tmp_path / "config.json").write_text(json.dumps(config))
  with torch.no_grad():
    wanted = model.forward_head(model.forward_features(normal(torch, IMAGES)), pre_logits=True).numpy()
  found, features = ours(tmp_path)
  close(features, wanted)
  assert found.unused == ("head.bias", "head.weight")


@pytest.mark.parametrize("depth", [18, 50])
def test_features_are_those_of_torchvision(tmp_path, depth):
  reason = "torchvision and torch, the peers, are not installed"
  torch, torchvision = pytest.importorskip("torch", reason=reason), pytest.importorskip("torchvision", reason=reason)
  from safetensors.torch import save_file

  model = drawn(torch, getattr(torchvision.models, f"resnet{depth}")())
  save_file(model.state_dict(), tmp_path / "model.safetensors")
  images = np.random.default_rng(1).random((2, 224, 224, 3)).astype("f")
  found, features = ours(tmp_path, images)
  model.fc = torch.nn.Identity()
  form = found.preprocessing
  pixels = torch.tensor(((images - form.mean) / form.deviation).astype("f").transpose(0, 3, 1, 2).copy())
  with torch.no_grad():
    close(features, model(pixels).numpy())


TEXT = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 60, "vocab_size": 50}
TEXT |= {"max_position_embeddings": 9, "projection_size": 32, "bos_token_id": None, "eos_token_id": 1}
TOKENS = np.random.default_rng(2).integers(0, 50, (4, 9))


def pair_of(folder, images, **how):
  """Ours: the features of both towers, and the logits of all pairs."""
  found = load_siglip(folder, **how)
  given = zip(found.networks, ("image", "text"), (images, TOKENS), strict=True)
  towers = [np.asarray(network.apply(found.params[name], {}, x, train=False)[0]) for network, name, x in given]
  first, second = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in towers)
  return found, (*towers, np.exp(found.params["log_scale"]) * first @ second.T + found.params["bias"])


def pair_of_transformers(torch, model, images, **how):
  with torch.no_grad():
    found = model(torch.tensor(TOKENS), normal(torch, images), **how)
  towers = found.vision_model_output.pooler_output, found.text_model_output.pooler_output
  return tuple(x.numpy() for x in (*towers, found.logits_per_image))


@pytest.mark.parametrize(("patch", "pixels"), [(4, 16), (5, 16), (4, 28)])
def test_siglip_pairs_are_those_of_transformers(peers, tmp_path, patch, pixels):
  torch, transformers = peers
  vision = SIZE | {"intermediate_size": 72, "patch_size": patch}
  model = drawn(torch, transformers.SiglipModel(transformers.SiglipConfig(vision_config=vision, text_config=TEXT)))
  with torch.no_grad():
    model.logit_scale.fill_(4.8)  # as published, about ln 117 and -13
    model.logit_bias.fill_(-12.9)
  save(model, tmp_path)
  images = np.random.default_rng(1).random((3, pixels, pixels, 3)).astype("f")
  how = ({"image_size": pixels}, {"interpolate_pos_encoding": True}) if pixels != 16 else ({}, {})
  found, given = pair_of(tmp_path, images, **how[0])
  wanted = pair_of_transformers(torch, model, images, **how[1])
  for ours, theirs in zip(given, wanted, strict=True):
    close(ours, theirs)
  if pixels == 16:
    save_siglip(tmp_path / "again", *found[1:])
    again = transformers.SiglipModel.from_pretrained(tmp_path / "again").state_dict()
    assert all(torch.equal(x, again[name]) for name, x in model.state_dict().items())


def test_siglip_pairs_are_those_of_open_clip(tmp_path, monkeypatch):
  reason = "open_clip and torch, the peers, are not installed"
  torch, open_clip = pytest.importorskip("torch", reason=reason), pytest.importorskip("open_clip", reason=reason)
  from safetensors.torch import save_file
  from timm.models import vision_transformer as timm

  text = {"context_length": 9, "vocab_size": 50, "width": 24, "heads": 3, "layers": 2, "mlp_ratio": 2.5}
  text |= {"no_causal_mask": True, "proj_bias": True, "pool_type": "last", "norm_kwargs": {"eps": 1e-6}}
  text |= {"act_kwargs": {"approximate": "tanh"}}
  vision = {"image_size": 32, "timm_model_name": "vit_base_patch16_siglip_224", "timm_pool": "map", "timm_proj": "none"}
  start = timm.VisionTransformer.__init__
  shorter = {"img_size": 32, "depth": 2, "embed_dim": 128, "num_heads": 2, "act_layer": "gelu_tanh"}
  monkeypatch.setattr(timm.VisionTransformer, "__init__", lambda self, **how: start(self, **(how | shorter)))
  model = drawn(torch, open_clip.model.CustomTextCLIP(128, vision, text, init_logit_bias=-10.0))
  save_file(model.state_dict(), tmp_path / "open_clip_model.safetensors")
  config = {"embed_dim": 128, "vision_cfg": vision, "text_cfg": text}
  preprocessing = {"mean": MEAN, "std": DEVIATION, "resize_mode": "squash"}
  (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": preprocessing}))
  images = np.random.default_rng(1).random((3, 32, 32, 3)).astype("f")
  with torch.no_grad():
    wanted = [model.encode_image(normal(torch, images)), model.encode_text(torch.tensor(TOKENS))]
    wanted.append(model.get_logits(normal(torch, images), torch.tensor(TOKENS))[0])
  for ours, theirs in zip(pair_of(tmp_path, images)[1], wanted, strict=True):
    close(ours, theirs.numpy())
