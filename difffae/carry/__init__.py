"""The photograph itself, moved and relit to other numbers of the head, and regions of one photograph carried to another.

Imports from common, head, faces and source.
"""
