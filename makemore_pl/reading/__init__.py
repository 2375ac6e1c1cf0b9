"""From the bytes of a file to names, weights and labels."""
