"""The version of this package."""

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


def package_version() -> str:
  """The version in the package's metadata; in a plain checkout on `sys.path`, that of its `pyproject.toml`."""
  try:
    return version("metajax")
  except PackageNotFoundError:
    return _in_checkout(Path(__file__).resolve().parent.parent)


def _in_checkout(root: Path) -> str:
  """The version in the `pyproject.toml` of a checkout; "unknown" without one."""
  import tomllib  # imported here: an installed package does not need it

  try:
    project = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["project"]
  except (OSError, ValueError, KeyError):
    return "unknown"
  return project["version"] if project.get("name") == "metajax" else "unknown"
