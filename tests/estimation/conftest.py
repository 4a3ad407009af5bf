from deca_parts import deca, surface_head  # noqa: F401  (fixtures)
