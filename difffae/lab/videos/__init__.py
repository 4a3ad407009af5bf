"""From talking-head videos and rendered people to shards of frames, and to those that training reads.

Imports from common, head, diffusion, faces, source, estimation, carry and person, and of the lab from people, studio and prepare.
"""
