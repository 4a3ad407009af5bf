"""What the training stages minimise, and the networks that only training needs. Imports from common, diffusion and source."""
