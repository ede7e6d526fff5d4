"""Images and their texts: what a CLIP learns from, names, finds and is probed on."""
