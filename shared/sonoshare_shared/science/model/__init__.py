"""The generative model: architecture, diffusion, sampling, adapters, the base weights and how they are trained."""
