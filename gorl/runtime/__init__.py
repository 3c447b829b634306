"""What runs programs: compilation, devices, processes, precision, seeds, signals. It knows no word of reinforcement learning."""
