"""Photographs of synthetic people with exact labels: scene, light, background, camera.

Imports from common and head, and of the lab from people.
"""
