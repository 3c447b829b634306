"""Native MuJoCo physics on the CPU, called from compiled programs."""
