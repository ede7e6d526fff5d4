"""The console script `metajax`: `metajax COMMAND --help` describes each command."""

import importlib
import sys

COMMANDS = {  # with what they do, so that a list of them imports none
  "predict": "labels images from a few labeled examples",
  "score": "cross-validates runs on a few labeled images",
  "embed": "writes the features of images",
  "export": "exports a run to a folder for jax and numpy alone",
  "runs": "lists runs with their flags and figures",
}


def main():
  """Runs the command that the first argument names."""
  name, *rest = sys.argv[1:] or ["--help"]
  if name in ("-h", "--help"):
    print("usage: metajax COMMAND [--help]\n")
    print("\n".join(f"  {name:<9}{text}" for name, text in COMMANDS.items()))
    return
  if name == "--version":
    from importlib.metadata import version

    print(f"metajax {version('metajax')}")
    return
  if name not in COMMANDS:
    print(f"metajax: expected one of {', '.join(COMMANDS)}, got {name!r}", file=sys.stderr)
    sys.exit(2)
  sys.argv = [f"metajax {name}", *rest]
  from metajax.experiment.command_line import command

  command(getattr(importlib.import_module(f"metajax.cli.{name}"), name), on_hosts=False)


if __name__ == "__main__":
  main()
