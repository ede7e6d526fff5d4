"""Generative pre-training on pictures: image GPT and masked autoencoders, their scores and figures."""
