"""Sizes and speed of a model, beside what the machine could do at best.

Imports from common, head, diffusion, faces, source, estimation, carry, edit and video.
"""
