"""What knows no faces: errors, files, checkpoints, pictures, rotations, operations on maps of pixels, the U-Net.

Imports from no other room.
"""
