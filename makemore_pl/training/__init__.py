"""The training half: from a list of names to a checkpoint, with PyTorch and Lightning."""
