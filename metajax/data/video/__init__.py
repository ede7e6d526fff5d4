"""Clips, and images with sounds."""
