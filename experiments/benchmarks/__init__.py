"""What measures speed, bias and memory."""
