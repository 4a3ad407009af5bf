"""Faces in pictures: finding them, their landmarks, following one through a video, cutting out its square and pasting it back.

Imports from common and head.
"""
