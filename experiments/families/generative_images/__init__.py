"""Generative pretraining on images: image GPT and masked autoencoders, their scores and figures."""
