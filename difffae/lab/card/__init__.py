"""What a model card states, and the comparison of estimators: measurements, rows with goals, Markdown.

Imports from common, head, diffusion, faces, source, estimation, carry, person, edit and report, and of the lab from studio, prepare and
tables.
"""
