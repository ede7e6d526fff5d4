"""Pretext tasks: the tasks, data of clips and sounds, and evaluation of the answers."""
