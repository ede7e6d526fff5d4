"""Loaders of published weights, from the publishers' files into networks and back."""
