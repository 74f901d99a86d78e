"""Drawing that training and evaluation share with the gallery in `visualize`."""
