"""Hair, clothes and background of one photograph carried to another.

Imports from common, head, faces, source, carry and person.
"""
