"""The paper's tables and figures: methods scored on the same pairs, pages of pictures.

Imports from common, head, diffusion, faces, source, estimation, carry, edit, report and convert, and of the lab from bench and videos.
"""
