"""What an edit did, measured again on finished pictures, and shown: numbers, rows of a report, contact sheets.

Imports from edit, source, faces, head and common.
"""
