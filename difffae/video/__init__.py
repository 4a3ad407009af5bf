"""Clips: read, written, followed, smoothed, driven and edited frame by frame, with memory that does not grow with their length.

Imports from common, head, diffusion, faces, source, estimation, carry and edit.
"""
