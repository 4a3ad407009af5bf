"""How the pixels of a photograph move and are relit with the numbers of a head, and how they come apart into layers.

Imports from common, head, faces and source.
"""
