"""The house's floors: imports only go down, and each outside library has its own room."""

import ast
import functools
import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import metajax

ROOT = Path(metajax.__file__).parent
# Floor 0, which every other room may see.
GROUND = ("types", "tree", "shards", "checks", "paths", "platforms", "similarity", "progress", "version", "pixels")
MAY_SEE = {  # what each room of the house may see, beside its own package and the ground
  "types": (),
  "tree": ("types",),
  "shards": (),
  "checks": ("types", "tree"),
  "paths": ("checks",),
  "platforms": (),
  "similarity": ("types", "tree", "checks"),
  "progress": ("types",),
  "version": (),
  "pixels": ("types", "checks"),
  "mesh": (),
  "compose": ("mesh",),
  "losses": ("mesh",),
  "augment": ("mesh",),
  "pretexts": ("augment",),
  "adapt": ("mesh", "compose", "losses", "augment", "pretexts"),
  "predictors": ("mesh", "compose", "losses", "augment", "pretexts"),
  "learners": ("mesh", "compose", "losses", "augment", "pretexts", "adapt", "predictors"),
  "networks": ("mesh",),  # a transformer gathers the parameters of a layer when it comes to it
  "data": (),
  "train": ("mesh", "predictors"),
  "compiled": ("mesh", "train"),
  "evaluate": ("mesh", "predictors", "losses"),
  "checkpoint": ("mesh", "predictors"),
  "report": ("mesh", "predictors"),
  "export": ("mesh",),
  "inference": ("export", "predictors", "networks", "data", "evaluate", "report"),
  "experiment": (
    *("mesh", "compose", "losses", "augment", "pretexts", "adapt", "predictors", "networks", "data"),
    *("train", "compiled", "evaluate", "checkpoint", "report", "export"),
  ),  # all but learners
  "cli": ("mesh", "networks", "data", "evaluate", "report", "export", "inference", "experiment"),
}
OWNERS = {
  "flax": "networks",
  "equinox": "networks",
  "haiku": "networks",
  "tensorflow": "data",
  "tensorflow_datasets": "data",
}
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
  """What a file at `path` in the package (e.g. "losses/classification.py") does that its floor forbids."""
  room, tree = path.removesuffix(".py").split("/")[0], ast.parse(source)
  for module, name in imports(tree):
    outside = module.split(".")[0]
    if module.startswith("."):
      yield f"{path}: a relative import"
    elif outside == "metajax" and room != "__init__":
      seen = module.split(".")[1] if "." in module else name or "all of metajax"
      ground = () if room in GROUND else GROUND
      if seen not in (room, *ground, *MAY_SEE.get(room, ())):
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
  assert {"types", "mesh", "learners", "data", *GROUND} <= rooms <= {*MAY_SEE, "__init__"}


@pytest.mark.parametrize("path", sources())
def test_imports_only_go_down(path):
  assert list(breaches(path, sources()[path])) == []


@pytest.mark.parametrize(
  ("path", "source", "said"),
  [
    ("types.py", "import metajax.mesh", "types imports mesh"),
    ("tree.py", "from metajax import checks", "tree imports checks"),
    ("checks/arrays.py", "from metajax.similarity import cosines", "checks imports similarity"),
    ("losses/metric.py", "from metajax.compose import linear", "losses imports compose"),
    ("train/fit.py", "from metajax.losses import accuracy", "train imports losses"),
    ("losses/classification.py", "from metajax.adapt import gradient_steps", "losses imports adapt"),
    ("compose/heads.py", "from metajax import losses", "compose imports losses"),
    ("mesh.py", "import metajax", "mesh imports all of metajax"),
    ("adapt.py", "def f():\n  from metajax.predictors import x", "adapt imports predictors"),
    ("train.py", "from metajax.learners import maml", "train imports learners"),
    ("experiment/driver.py", "from metajax.learners import maml", "experiment imports learners"),
    ("experiment/driver.py", "from metajax.cli.runs import runs", "experiment imports cli"),
    ("cli/runs.py", "from metajax.learners import maml", "cli imports learners"),
    ("report.py", "from metajax import gradient_steps", "report imports gradient_steps"),
    ("networks/mlp.py", "from metajax.losses import accuracy", "networks imports losses"),
    ("data/load.py", "from metajax.mesh import make_mesh", "data imports mesh"),
    ("losses/classification.py", "from . import metric", "a relative import"),
    ("learners/maml.py", "import flax.linen as nn", "imports flax"),
    ("compose/heads.py", "def f():\n  import equinox", "imports equinox"),
    ("train.py", "def f():\n  import tensorflow as tf", "imports tensorflow"),
    ("networks/mlp.py", "import tensorflow_datasets", "imports tensorflow_datasets"),
    ("report.py", "import matplotlib.pyplot as plt", "imports matplotlib with the module"),
    ("report.py", "if True:\n  from matplotlib import figure", "imports matplotlib with the module"),
    ("train.py", "import jax\nf = jax.pmap(g)", "speaks of pmap"),
    ("mesh.py", "from jax.experimental import shard_map", "imports what jax has deprecated"),
    ("mesh.py", "from jax.experimental.shard_map import shard_map", "imports what jax has deprecated"),
    ("losses/contrastive/tiling.py", "import jax\ny = jax.lax.psum(x, 'data')", "speaks of psum"),
    ("losses/contrastive/tiling.py", "import jax\ny = jax.lax.axis_size('data')", "names the device axis"),
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
    ("data/load.py", "def f(data):\n  return load('data')"),
  ],
)
def test_what_the_floors_allow_is_no_breach(path, source):
  assert list(breaches(path, source)) == []


def project():
  """{module: its text} of the library and the commands."""
  files = [path for top in ("metajax", "experiments") for path in (ROOT.parent / top).rglob("*.py")]
  dotted = lambda path: ".".join(path.relative_to(ROOT.parent).with_suffix("").parts).removesuffix(".__init__")
  return {dotted(path): path.read_text() for path in sorted(files)}


def named_imports(modules):
  """{module: the modules that it names when it is imported}: a facade where one is named, else the module itself.

  To import a module also runs the facades above it, which it does not need: those do not count.
  """
  given = {
    module: [pair for node in at_module_level(ast.parse(source)) for pair in imports(node)]
    for module, source in modules.items()
  }
  bound = {module: {name for of, name in pairs if of != module} for module, pairs in given.items()}  # by a facade
  is_module = lambda of, name: f"{of}.{name}" in modules and name not in bound.get(of, ())
  named = lambda pairs: {f"{of}.{name}" if is_module(of, name) else of for of, name in pairs}
  return {module: named(pairs) & set(modules) for module, pairs in given.items()}


def circles(graph):
  """The groups of modules that import each other, on whatever way round."""

  def reached(start):
    found, waiting = set(), [start]
    while waiting:
      new = graph[waiting.pop()] - found
      found |= new
      waiting += new
    return found

  after = {module: reached(module) for module in graph}
  of = lambda module: tuple(sorted(other for other in after[module] if module in after[other]))
  return sorted({of(module) for module in graph if module in after[module]})


def test_no_modules_import_each_other():
  assert circles(named_imports(project())) == []


@pytest.mark.parametrize(
  ("modules", "found"),
  [
    ({"a.b": "from a.c import x", "a.c": "from a import b"}, [("a.b", "a.c")]),
    ({"a": "import b", "b": "if True:\n  import c", "c": "class C:\n  from a import x"}, [("a", "b", "c")]),
    ({"a": "from a.b import x", "a.b": "from a import y"}, [("a", "a.b")]),  # a facade from within
    ({"a": "from a.b import b", "a.b": "import z", "a.c": "from a import b"}, []),
    ({"a": "from a.b import b\nimport a.c", "a.b": "import z", "a.c": "from a import b"}, [("a", "a.c")]),
    ({"a": "from a.b import x", "a.b": "from a.c import y", "a.c": "def f():\n  import a"}, []),
  ],
)
def test_a_circle_is_seen(modules, found):
  assert circles(named_imports(modules)) == found


def test_a_facade_gives_what_it_names_and_not_a_module_of_that_name():
  for module in sorted({str(Path(path).parent).replace("/", ".") for path in sources()} - {"."}):
    facade = importlib.import_module(f"metajax.{module}")
    assert not [name for name in getattr(facade, "__all__", ()) if inspect.ismodule(getattr(facade, name))], module


def test_neither_metajax_nor_a_command_imports_what_its_help_does_not_need():
  commands = [f"experiments.{path.stem}" for path in Path("experiments").glob("[a-z]*.py")]
  commands += [f"metajax.cli.{path.stem}" for path in (ROOT / "cli").glob("[a-z]*.py")]
  heavy = ("tensorflow", "tensorflow_datasets", "matplotlib", "sklearn", "orbax.checkpoint", "scipy.stats")
  look = f"import sys, metajax, {', '.join(commands)}; print([m for m in {heavy} if m in sys.modules])"
  run = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True)
  assert len(commands) > 25 and run.stdout.strip() == "[]"


def test_tensorflow_sees_no_accelerator_from_its_first_use_on():
  look = """if True:
    from unittest import mock
    from metajax.data._tensorflow import tfds
    import tensorflow
    with mock.patch.object(tensorflow.config, "set_visible_devices") as hide:
      tfds.core
    print([call.args for call in hide.call_args_list])"""
  run = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True)
  assert run.stdout.strip() == "[([], 'GPU'), ([], 'TPU')]"
