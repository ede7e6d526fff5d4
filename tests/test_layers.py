"""The house's floors: imports only go down, and each outside library has its own room."""

import ast
import functools
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import metajax

ROOT = Path(metajax.__file__).parent
MAY_SEE = {  # what each room of the house may see, beside its own package
  "types": (),
  "checks": (),
  "paths": (),
  "mesh": ("types",),
  "compose": ("types", "mesh"),
  "losses": ("types", "mesh", "compose"),
  "views": ("types", "mesh"),
  "pretexts": ("types", "views"),
  "adapt": ("types", "mesh", "compose", "losses", "views", "pretexts"),
  "predictors": ("types", "mesh", "compose", "losses", "views", "pretexts"),
  "learners": ("types", "mesh", "compose", "losses", "views", "pretexts", "adapt", "predictors"),
  "networks": ("types",),
  "data": ("types",),
  "train": ("types", "mesh", "predictors", "losses"),
  "evaluate": ("types", "mesh", "predictors", "losses"),
  "checkpoint": ("types", "mesh", "predictors", "losses"),
  "report": ("types", "mesh", "predictors", "losses"),
}
OWNERS = {"flax": "networks", "tensorflow": "data", "tensorflow_datasets": "data"}
DEVICE_WORDS = {"shard_map", "PartitionSpec", "psum", "pmean", "pmax", "pmin", "all_gather", "all_to_all", "ppermute"}
DEVICE_WORDS |= {"axis_index", "psum_scatter", "NamedSharding", "with_sharding_constraint"}
DEPRECATED = tuple(f"jax.experimental.{name}" for name in ("shard_map", "pjit", "maps", "host_callback", "export"))
GONE = {"pmap", "pjit", "xmap"}  # old names of jit and shard_map


def imports(tree):
  """(the dotted module, the name taken from it or None) of every import in a tree, however deep."""
  for node in ast.walk(tree):
    if isinstance(node, ast.Import):
      yield from ((alias.name, None) for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
      yield from (("." * node.level + (node.module or ""), alias.name) for alias in node.names)


def at_module_level(tree):
  """The part of a tree that runs when the module is imported."""
  parts, nodes = [], [tree]
  while nodes:
    for child in ast.iter_child_nodes(nodes.pop()):
      if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
        parts.append(child)
        nodes.append(child)
  return [part for part in parts if isinstance(part, ast.Import | ast.ImportFrom)]


def names(tree):
  """Every name, attribute and imported name that a tree speaks of."""
  for node in ast.walk(tree):
    if isinstance(node, ast.Name):
      yield node.id
    elif isinstance(node, ast.Attribute):
      yield node.attr
    elif isinstance(node, ast.alias):
      yield from node.name.split(".")


def breaches(path, source):
  """What a file at `path` in the package (e.g. "losses/regression.py") does that its floor forbids."""
  room, tree = path.removesuffix(".py").split("/")[0], ast.parse(source)
  for module, name in imports(tree):
    outside = module.split(".")[0]
    if module.startswith("."):
      yield f"{path}: a relative import"
    elif outside == "metajax" and room != "__init__":
      seen = module.split(".")[1] if "." in module else name or "all of metajax"
      if seen != room and seen not in ("checks", "paths", *MAY_SEE.get(room, ())):
        yield f"{path}: {room} imports {seen}"
    elif outside in OWNERS and OWNERS[outside] != room:
      yield f"{path}: imports {outside}"
    if f"{module}.{name}".startswith(DEPRECATED):
      yield f"{path}: imports what jax has deprecated"
  found = set(names(tree))
  for word in sorted(found & GONE):
    yield f"{path}: speaks of {word}"
  if room != "mesh":
    yield from (f"{path}: speaks of {word}" for word in sorted(found & DEVICE_WORDS))
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
      arguments = [*call.args, *(keyword.value for keyword in call.keywords if "axis" in (keyword.arg or ""))]
      if names_a_device(call) and any(isinstance(a, ast.Constant) and a.value == "data" for a in arguments):
        yield f"{path}: names the device axis"
  for node in at_module_level(tree):
    if any(module.split(".")[0] == "matplotlib" for module, _ in imports(node)):
      yield f"{path}: imports matplotlib with the module"


def names_a_device(call):
  """Whether a call could take an axis of the mesh: one of jax's, or by a keyword that says axis."""
  words = set(names(call.func))
  return bool(words & {"jax", "lax", "P", "Mesh"}) or any("axis" in (k.arg or "") for k in call.keywords)


@functools.cache
def sources():
  return {str(path.relative_to(ROOT)): path.read_text() for path in sorted(ROOT.rglob("*.py"))}


def test_every_file_has_a_floor():
  rooms = {path.removesuffix(".py").split("/")[0] for path in sources()}
  assert {"types", "mesh", "learners", "data"} <= rooms <= {*MAY_SEE, "__init__"}


@pytest.mark.parametrize("path", sources())
def test_imports_only_go_down(path):
  assert list(breaches(path, sources()[path])) == []


@pytest.mark.parametrize(
  ("path", "source", "said"),
  [
    ("types.py", "import metajax.mesh", "types imports mesh"),
    ("losses/regression.py", "from metajax.adapt import gradient_steps", "losses imports adapt"),
    ("compose/heads.py", "from metajax import losses", "compose imports losses"),
    ("mesh.py", "import metajax", "mesh imports all of metajax"),
    ("adapt.py", "def f():\n  from metajax.predictors import x", "adapt imports predictors"),
    ("train.py", "from metajax.learners import maml", "train imports learners"),
    ("report.py", "from metajax import gradient_steps", "report imports gradient_steps"),
    ("networks/mlp.py", "from metajax.losses import accuracy", "networks imports losses"),
    ("data/sources.py", "from metajax.mesh import make_mesh", "data imports mesh"),
    ("losses/regression.py", "from . import classification", "a relative import"),
    ("learners/maml.py", "import flax.linen as nn", "imports flax"),
    ("train.py", "def f():\n  import tensorflow as tf", "imports tensorflow"),
    ("networks/mlp.py", "import tensorflow_datasets", "imports tensorflow_datasets"),
    ("report.py", "import matplotlib.pyplot as plt", "imports matplotlib with the module"),
    ("report.py", "if True:\n  from matplotlib import figure", "imports matplotlib with the module"),
    ("train.py", "import jax\nf = jax.pmap(g)", "speaks of pmap"),
    ("mesh.py", "from jax.experimental import shard_map", "imports what jax has deprecated"),
    ("mesh.py", "from jax.experimental.shard_map import shard_map", "imports what jax has deprecated"),
    ("losses/contrastive.py", "import jax\ny = jax.lax.psum(x, 'data')", "speaks of psum"),
    ("losses/contrastive.py", "import jax\ny = jax.lax.axis_size('data')", "names the device axis"),
    ("learners/maml.py", "from jax.sharding import PartitionSpec as P", "speaks of PartitionSpec"),
    ("networks/resnet.py", "y = nn.BatchNorm(axis_name='data')(x)", "names the device axis"),
  ],
)
def test_a_breach_is_seen(path, source, said):
  assert f"{path}: {said}" in list(breaches(path, source))


@pytest.mark.parametrize(
  ("path", "source"),
  [
    ("learners/maml.py", "from metajax.learners._episodes import episodic_loss\nfrom metajax import adapt"),
    ("report.py", "def f():\n  from matplotlib.figure import Figure"),
    ("data/sources.py", "def f(data):\n  return load('data')"),
  ],
)
def test_what_the_floors_allow_is_no_breach(path, source):
  assert list(breaches(path, source)) == []


def test_importing_metajax_imports_neither_tensorflow_nor_matplotlib():
  look = (
    "import sys, metajax; print([m for m in ('tensorflow', 'tensorflow_datasets', 'matplotlib') if m in sys.modules])"
  )
  run = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True)
  assert run.stdout.strip() == "[]"


def test_importing_metajax_data_hides_every_accelerator_from_tensorflow(monkeypatch):
  import tensorflow as tf

  hidden = []
  monkeypatch.setattr(tf.config, "set_visible_devices", lambda devices, kind: hidden.append((devices, kind)))
  importlib.reload(importlib.import_module("metajax.data"))
  assert hidden[-2:] == [([], "GPU"), ([], "TPU")]
