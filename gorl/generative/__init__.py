"""The mathematics of generative models: interpolation, diffusion, samplers, schedules and distributions."""
