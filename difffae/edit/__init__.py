"""One description of an edit and its four steps, with the models, recipes, reports and measures around them.

Imports from common, head, diffusion, faces, source, estimation, carry, person and swap.
"""
