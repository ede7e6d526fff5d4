"""The wheel of this checkout, built apart, so that nothing is left of another build."""

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def build(folder: Path) -> Path:
  """Builds the wheel in an existing folder, and returns its file."""
  for name in ("pyproject.toml", "README.md", "LICENSE"):
    shutil.copy(ROOT / name, folder)
  shutil.copytree(ROOT / "metajax", folder / "metajax", ignore=shutil.ignore_patterns("__pycache__"))
  how = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check"]
  subprocess.run([sys.executable, "-m", "pip", "wheel", *how, str(folder), "-w", str(folder)], check=True)
  (wheel,) = folder.glob("*.whl")
  return wheel
