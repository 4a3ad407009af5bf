"""The latent diffusion model: first stages, the denoiser and what it is told, noise schedules, sampling.

Imports from common.
"""
