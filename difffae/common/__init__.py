"""What knows no faces: errors, files, checkpoints, named values, pictures, rotations, operations on maps of pixels, the U-Net.

Imports from no other room.
"""
