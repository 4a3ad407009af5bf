"""The open profile from a folder of portraits in one run: how a budget of time is divided, the parts in their order, the card.

Imports from common, head, diffusion, source, edit, bench, prepare, training, tables and card.
"""
