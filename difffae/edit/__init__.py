"""One description of an edit and its four steps, with the models and recipes around them.

Imports from common, head, diffusion, faces, source, estimation, carry, person and swap.
"""
