"""The 3D head (the paper's SPC): its numbers, changing them, its surface, light and picture.

Imports from common.
"""
