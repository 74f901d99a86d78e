"""Training on many machines, or on two devices with a tower each."""
