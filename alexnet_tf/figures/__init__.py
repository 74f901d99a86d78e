"""Drawing that training, evaluation and export share with the figures of `visualize`."""
