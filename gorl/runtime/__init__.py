"""Running programs: compilation, devices, processes, precision, seeds and signals. Nothing here is specific to RL."""
