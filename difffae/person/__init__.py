"""A photograph as one complete person, prepared once and moved to any number of targets.

Imports from common, head, source and carry.
"""
