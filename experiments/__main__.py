"""Lists the commands, one per line."""

from experiments import commands

if __name__ == "__main__":
  for name, said in commands().items():
    print(f"python -m {name:<32} {said}")
