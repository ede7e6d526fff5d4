"""Pretext tasks: what is asked, the data of clips and sounds, how well a network answers."""
