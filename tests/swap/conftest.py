"""The bundled head, and a person with a mass of hair."""

from heads import afro, head  # noqa: F401  (fixtures)
