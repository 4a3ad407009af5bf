"""From portraits and rendered people to the shards that training reads.

Imports from common, head, diffusion, faces, source, estimation, carry, person, edit, report and video, and from the lab's people and studio.
"""
