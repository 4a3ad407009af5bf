"""Synthetic people: who they are, what they wear, how they look and move, with MakeHuman's CC0 assets.

Imports from common, head and faces.
"""
