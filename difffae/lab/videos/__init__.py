"""From talking-head videos and rendered people to shards of frames, and to those that training reads.

Imports from common, head, diffusion, faces, source, estimation, carry, person, edit and video, and of the lab from people, studio and
prepare.
"""
