"""Published encoders: features as their papers have them, every array in its place, and files that are refused."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import published_encoders as published
import pytest
from params_by_numpy import start
from PIL import Image

from metajax.cli.embed import embed
from metajax.cli.predict import predict
from metajax.cli.score import score
from metajax.inference import load_encoder as load_model
from metajax.networks import ResNet, Size, VisionTransformer, load_encoder, resnet, save_encoder, vision_transformer
from metajax.networks.checkpoints import vit_names
from metajax.networks.checkpoints.preprocessing import of_hugging_face, of_timm
from metajax.networks.linen.transformer import VIT
from metajax.networks.linen.vision_transformer import resized_positions
from metajax.types import Preprocessing

DINOV2, GATED, SIGLIP, RESNET = published.dinov2(), published.dinov2(True), published.siglip(), published.resnet18()
ENCODERS = {
  "DINOv2": (DINOV2, published.DINOV2, lambda x: published.dinov2_features(DINOV2, x)),
  "DINOv2, SwiGLU": (GATED, published.DINOV2, lambda x: published.dinov2_features(GATED, x, True)),
  "SigLIP": (SIGLIP, published.SIGLIP, lambda x: published.siglip_features(SIGLIP, x)),
  "ResNet-18": (RESNET, None, lambda x: published.resnet18_features(RESNET, x)),
}
UNUSED = {
  "DINOv2": ("embeddings.mask_token",),
  "DINOv2, SwiGLU": ("embeddings.mask_token",),
  "SigLIP": ("logit_bias", "logit_scale", "text_model.head.weight"),
  "ResNet-18": ("bn1.num_batches_tracked", "fc.bias", "fc.weight"),
}


def features(found, images):
  return jax.jit(found.network.apply, static_argnames="train")(found.params, found.state, images, train=False)[0]


def equal(found, wanted):
  jax.tree.map(np.testing.assert_array_equal, found, wanted)


@pytest.mark.parametrize("name", ENCODERS)
def test_features_are_the_papers_and_every_other_array_is_named(tmp_path, name):
  tensors, config, wanted = ENCODERS[name]
  found = load_encoder(published.write(tmp_path, tensors, config))
  np.testing.assert_allclose(features(found, published.IMAGES), wanted(published.IMAGES), rtol=0, atol=1e-4)
  assert found.unused == UNUSED[name]
  assert found.preprocessing == Preprocessing(12, "squash", None, "bilinear", (0.4, 0.5, 0.6), (0.2, 0.3, 0.4))


@pytest.mark.parametrize("name", ["DINOv2", "DINOv2, SwiGLU", "ResNet-18"])
def test_what_is_saved_is_loaded_to_the_bit(tmp_path, name):
  tensors, config, _ = ENCODERS[name]
  first = load_encoder(published.write(tmp_path / "first", tensors, config))
  save_encoder(tmp_path / "second", *first[1:5])
  second = load_encoder(tmp_path / "second")
  equal(second[1:3], first[1:3])
  assert second.architecture == first.architecture and second.preprocessing == first.preprocessing


def test_own_networks_are_saved_as_published_ones(tmp_path):
  size, images = Size(16, 2, 4), jnp.zeros((1, 8, 8, 3))
  for network, architecture in (
    (vision_transformer(size, 4), VisionTransformer(size, 4, "class", VIT, 8)),
    (resnet(18), ResNet(18, 8)),
  ):
    params, state = start(network.init, images)
    save_encoder(tmp_path, params, state, architecture, Preprocessing(8))
    found = load_encoder(tmp_path)
    equal((found.params, found.state), (params, state))
    assert found.architecture == architecture
  with pytest.raises(ValueError, match=r"the models of transformers that can be written, got VisionTransformer.*mean"):
    save_encoder(tmp_path, {}, {}, VisionTransformer(size, 4, "mean", VIT, 8), Preprocessing(8))
  with pytest.raises(ValueError, match="expected a preprocessing to 8 pixels"):
    save_encoder(tmp_path, {}, {}, ResNet(18, 8), Preprocessing(9))


def test_own_networks_with_registers_pool_their_patches():
  images = jnp.ones((1, 8, 8, 3))
  features = {}
  for pool in ("mean", "none"):
    network = vision_transformer(Size(16, 1, 4), 4, pool=pool, details=VIT._replace(registers=2))
    made = start(network.init, images)
    features[pool] = jax.jit(lambda made, network=network: network.apply(*made, images, train=False)[0])(made)
  assert features["none"].shape == (1, 4, 16)
  np.testing.assert_allclose(features["mean"], features["none"].mean(1), atol=1e-6)


def test_layouts_hold_the_same_network(tmp_path):
  first = load_encoder(published.write(tmp_path / "first", DINOV2, published.DINOV2))
  timm = published.timm_names(DINOV2)
  with pytest.raises(
    ValueError, match=r"expected the number of attention heads in .* which a width of 16 does not tell"
  ):
    load_encoder(published.write(tmp_path / "second", timm))
  second = load_encoder(published.write(tmp_path / "third", timm, published.DINOV2))
  equal(second.params, first.params)
  whole = {f"dinov2_with_registers.{name}": x for name, x in DINOV2.items()} | {"classifier.bias": np.zeros(3, "f")}
  third = load_encoder(published.write(tmp_path / "fourth", whole, published.DINOV2))
  equal(third.params, first.params)
  assert third.unused == ("classifier.bias", "dinov2_with_registers.embeddings.mask_token")


def without(name):
  return {key: x for key, x in DINOV2.items() if key != name}


QUERY, LAMBDA = "encoder.layer.1.attention.attention.query.weight", "encoder.layer.1.layer_scale2.lambda1"
REFUSED = {
  "a missing array": (without(QUERY), None, "got none named 'layer_1.attention.query.weight'"),
  "a missing scale": (without(LAMBDA), None, "got none named 'layer_1.perceptron_scale'"),
  "an array too many": (DINOV2 | {"decoder.weight": np.zeros(2, "f")}, None, "got 'decoder.weight' too"),
  "a layer too many": (
    DINOV2 | {"encoder.layer.3.norm1.bias": np.zeros(16, "f")}, None, "expected num_hidden_layers to be 3",
  ),
  "another shape": (DINOV2 | {QUERY: np.zeros((16, 15), "f")}, None, rf"expected '{QUERY}' to be floating \[16, 16\]"),
  "integers": (DINOV2 | {QUERY: np.zeros((16, 16), "i4")}, None, rf"expected '{QUERY}' to be floating"),
  "NaN": (DINOV2 | {LAMBDA: np.full(16, np.nan, "f")}, None, f"expected '{LAMBDA}' to be finite"),
  "places of no square": (
    DINOV2 | {"embeddings.position_embeddings": np.zeros((1, 8, 16), "f")}, None, "positions of a square of patches",
  ),
  "a foreign file": ({"weight": np.zeros(2, "f")}, None, "a residual network or a CLIP in .* got 'weight'"),
  "another model": (DINOV2, {"model_type": "beit"}, "model_type in .* got 'beit'"),
  "another width": (DINOV2, {"hidden_size": 32}, "expected hidden_size to be 16"),
  "heads that do not divide": (DINOV2, {"num_attention_heads": 5}, "heads that divide the width of 16"),
  "an unknown activation": (DINOV2, {"hidden_act": "mish"}, "hidden_act in .* got 'mish'"),
  "no biases": (DINOV2, {"qkv_bias": False}, "expected qkv_bias True"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_a_file_of_another_network_is_refused_by_its_array_or_setting(tmp_path, case):
  tensors, change, said = REFUSED[case]
  with pytest.raises(ValueError, match=said):
    load_encoder(published.write(tmp_path, tensors, published.DINOV2 | (change or {})))


def test_damaged_files_and_resnets_of_other_depths_are_refused(tmp_path):
  file = published.write(tmp_path, RESNET) / "model.safetensors"
  content = file.read_bytes()
  file.write_bytes(content[: len(content) // 2])
  with pytest.raises(ValueError, match="is not a complete safetensors file"):
    load_encoder(tmp_path)
  few = {name: x for name, x in RESNET.items() if not name.startswith("layer4.1.")}
  with pytest.raises(ValueError, match=r"expected a ResNet-10, 18, .* got blocks \(2, 2, 2, 1\), without bottlenecks"):
    load_encoder(published.write(tmp_path, few))
  with pytest.raises(ValueError, match="expected layer_type to be basic"):
    load_encoder(published.write(tmp_path, RESNET, {"model_type": "resnet", "layer_type": "bottleneck"}))


def counted(table):
  return sum(int(np.prod(entry.shape)) for entry in table)


@pytest.mark.parametrize(
  ("size", "gated", "registers", "number"),
  [
    (Size(384, 12, 6), None, 0, 22_056_576),
    (Size(768, 12, 12), None, 4, 86_583_552),
    (Size(1024, 24, 16), None, 0, 304_368_640),
    (Size(1536, 40, 24), 4096, 0, 1_136_480_768),
  ],
)
def test_published_dinov2s_have_as_many_parameters_as_published(size, gated, registers, number):
  details, size = (
    VIT._replace(layer_scale=1.0, registers=registers, gated=gated is not None),
    size._replace(hidden=gated),
  )
  mask_token = size.width  # is not needed for features
  assert counted(vit_names.table(VisionTransformer(size, 14, "class", details, 518))) == number - mask_token


def test_published_siglips_have_as_many_parameters_as_published():
  wide = Size(1152, 27, 16, 4304)
  assert counted(vit_names.table(VisionTransformer(Size(768, 12, 12), 16, "attention", VIT, 224))) == 92_884_224
  assert counted(vit_names.table(VisionTransformer(wide, 14, "attention", VIT, 378))) == 428_225_600
  network = vision_transformer(wide, 14, pool="attention")
  shapes = jax.eval_shape(network.init, jax.random.key(0), jax.ShapeDtypeStruct((1, 378, 378, 3), "float32"))
  assert sum(x.size for x in jax.tree.leaves(shapes)) == 428_225_600


def keys_cubic(x, places):
  """Keys' cubic (a = -3/4) of values at a place, with repeated ends, in a loop."""
  found = []
  for place in places:
    total, left = 0.0, int(np.floor(place))
    for i in range(left - 1, left + 3):
      d = abs(place - i)
      near, far = 1.25 * d**3 - 2.25 * d**2 + 1, -0.75 * d**3 + 3.75 * d**2 - 6 * d + 3
      total += (near if d <= 1 else far) * x[min(max(i, 0), len(x) - 1)]
    found.append(total)
  return np.array(found)


@pytest.mark.parametrize("side", [2, 3, 5, 9])
def test_positions_are_interpolated_as_by_transformers(side):
  positions = np.random.default_rng(0).normal(size=(16, 2)).astype("f")
  found = resized_positions(positions, side, first=False, antialias=False)
  places = (np.arange(side) + 0.5) * 4 / side - 0.5
  grid = positions.reshape(4, 4, 2)
  rows = np.stack([keys_cubic(grid[:, j], places) for j in range(4)], 1)
  wanted = np.stack([keys_cubic(rows[i], places) for i in range(side)])
  np.testing.assert_allclose(found.reshape(side, side, 2), wanted, atol=1e-5)


def test_images_of_another_size_take_interpolated_positions(tmp_path):
  folder = published.write(tmp_path, SIGLIP, published.SIGLIP)
  found = load_encoder(folder, image_size=20)
  assert found.params["positions"].shape == (25, 16) and found.preprocessing.pixels == 20
  assert features(found, jnp.ones((1, 20, 20, 3))).shape == (1, 16)
  with pytest.raises(ValueError, match=r"images \[n, 20, 20, 3\], .* got \[1, 12, 12, 3\]"):
    found.network.apply(found.params, {}, published.IMAGES[:1], train=False)
  with pytest.raises(ValueError, match="an image_size that patches of 4 pixels divide, got 21"):
    load_encoder(folder, image_size=21)
  larger = published.PROCESSOR | {"size": {"height": 16, "width": 16}}
  with pytest.raises(ValueError, match="image_size=16 interpolates the positions"):
    load_encoder(published.write(tmp_path, SIGLIP, published.SIGLIP, larger))
  dinov2 = published.write(tmp_path / "dinov2", DINOV2, published.DINOV2, larger)  # published with two sizes
  assert load_encoder(dinov2).params["positions"].shape == (17, 16)


def test_what_no_configuration_says_is_assumed_with_a_warning(tmp_path):
  with pytest.warns(UserWarning, match="assuming torchvision's: .*shortest"):
    found = load_encoder(published.write(tmp_path, RESNET, None, None))
  assert found.preprocessing[:4] == (224, "shortest", 256, "bilinear")
  with pytest.warns(UserWarning, match="assuming that of BitImageProcessor"):
    found = load_encoder(published.write(tmp_path / "dinov2", DINOV2, published.DINOV2, None), image_size=12)
  assert found.preprocessing.mean == (0.485, 0.456, 0.406)


PROCESSORS = {
  "BitImageProcessor": ({}, (224, "shortest", 256, "bicubic")),
  "DeiTImageProcessor": ({}, (224, "squash", 256, "bicubic")),
  "ConvNextImageProcessor": ({"size": {"shortest_edge": 224}, "resample": 3}, (224, "shortest", 256, "bicubic")),
  "ConvNextFeatureExtractor": ({"size": 384}, (384, "squash", None, "bilinear")),
}


@pytest.mark.parametrize("kind", PROCESSORS)
def test_preprocessing_is_that_of_its_processor(kind):
  said, wanted = PROCESSORS[kind]
  assert of_hugging_face(said | {"image_processor_type": kind}, "a file")[:4] == wanted


def test_preprocessing_of_timm():
  assert of_timm({"crop_pct": 0.9, "interpolation": "bicubic"}, 224, "a file")[:4] == (224, "shortest", 248, "bicubic")
  assert of_timm({"crop_pct": 1.0, "crop_mode": "squash"}, 378, "a file")[:4] == (378, "squash", None, "bilinear")
  with pytest.raises(ValueError, match=r"crop_mode in 'a file'.* got 'border'"):
    of_timm({"crop_mode": "border"}, 224, "a file")


COLORS = {"blue": (40, 60, 200), "green": (40, 180, 60), "red": (200, 40, 40)}


@pytest.fixture
def photos(tmp_path):
  """An encoder, and folders of support images by color and of new images."""
  published.write(tmp_path / "encoder", DINOV2, published.DINOV2)
  random = np.random.default_rng(0)
  for name, color in COLORS.items():
    for i in range(5):
      image = np.clip(np.array(color) + random.normal(0, 10, (20, 30, 3)), 0, 255).astype(np.uint8)
      path = tmp_path / ("new" if i > 2 else f"support/{name}") / f"{name}_{i}.png"
      path.parent.mkdir(parents=True, exist_ok=True)
      Image.fromarray(image).save(path)
  return tmp_path


def test_ones_own_images_are_labeled_without_any_training(photos, monkeypatch, capsys):
  monkeypatch.chdir(photos)
  encoder, support, new = photos / "encoder", photos / "support", photos / "new"
  predict(support, (new,), encoder=encoder)
  rows = [line.split(",")[:2] for line in (photos / "labels.csv").read_text().splitlines()[1:]]
  assert len(rows) == 6 and all(label in name for name, label in rows)
  assert "100.0% right" in capsys.readouterr().out and (photos / "labels.html").is_file()
  embed((new,), encoder=encoder)
  assert np.load(photos / "features.npz")["features"].shape == (6, 16)
  score(support, encoder=encoder)
  printed = capsys.readouterr().out
  assert "encoder" in printed and "pixels, nearest centroid" in printed
  for given, said in (({}, "neither"), ({"run": new, "encoder": encoder}, "and --encoder")):
    with pytest.raises(ValueError, match=f"expected the folder of a run or --encoder .* got .*{said}"):
      predict(support, (new,), **given)


def test_the_classifier_of_an_encoder_compares_normalized_features(photos):
  model = load_model(photos / "encoder")
  images = np.random.default_rng(0).integers(0, 256, (7, 12, 12, 3), dtype=np.uint8)
  labels = np.eye(3)[[0, 0, 1, 2, 2]]
  found = model.model.embed(images)
  wanted = features(load_encoder(photos / "encoder"), images.astype("f") / np.float32(255))
  np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)
  unit = found / np.linalg.norm(found, axis=1, keepdims=True)
  means = (labels.T @ unit[:5]) / labels.sum(0)[:, None]
  logits = -((unit[5:, None] - means) ** 2).sum(-1)
  np.testing.assert_allclose(model.model.logits(images[:5], labels, images[5:]), logits, atol=1e-5)


def test_an_encoder_of_infinite_features_is_refused(tmp_path):
  huge = DINOV2 | {"layernorm.weight": np.full(16, 3e38, "f"), "layernorm.bias": np.full(16, 3e38, "f")}
  model = load_model(published.write(tmp_path, huge, published.DINOV2))
  with pytest.raises(ValueError, match="expected finite features"):
    model.embed(np.zeros((1, 12, 12, 3), np.uint8))


def test_the_config_of_a_written_encoder_is_transformers(tmp_path):
  found = load_encoder(published.write(tmp_path / "first", GATED, published.DINOV2))
  save_encoder(tmp_path, *found[1:5])
  config = json.loads((tmp_path / "config.json").read_text())
  assert config["model_type"] == "dinov2_with_registers" and config["use_swiglu_ffn"] is True
  assert config["num_register_tokens"] == 3 and config["num_attention_heads"] == 4
