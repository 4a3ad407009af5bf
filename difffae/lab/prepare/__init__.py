"""From portraits and rendered people to the shards that training reads.

Imports from common, head, diffusion, faces, source, estimation, carry, person and edit.
"""
