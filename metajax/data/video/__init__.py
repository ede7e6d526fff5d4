"""Clips and pictures with sounds."""
