"""Hair, clothes and background of one photograph carried to another.

Imports from common, head, source, carry and person.
"""
