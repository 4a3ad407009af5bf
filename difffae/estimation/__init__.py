"""From a photograph to the numbers of the 3D head: the landmark fit, the network, DECA, and which of them is used.

Imports from common, head, faces and source.
"""
