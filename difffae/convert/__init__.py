"""Converters: other people's model files -> one safetensors file of ours (difffae.common.checkpoint) that states its licence.

One function per kind of file, called as `convert(inputs, output, **options)`; the command line's table (difffae.cli.convert) names them.
Nothing licensed ships with this package: every converter works on files that the user brings. Imports from common, head, diffusion,
source, estimation and edit.
"""
