"""What a portrait shows and who it is (the paper's RSC): slot tokens, regions, the person's matte, identity tokens.

Imports from common, faces and diffusion.
"""
