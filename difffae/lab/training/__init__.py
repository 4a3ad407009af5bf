"""The stages of training and what they share: loop, checkpoints, presets.

Imports from common, head, diffusion, faces, source, estimation and edit, and of the lab from prepare and losses.
"""
