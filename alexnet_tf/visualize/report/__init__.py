"""Method `report`: one HTML file about a run, composed in `page`."""

from alexnet_tf.visualize.report.page import add_arguments, draw

__all__ = ["add_arguments", "draw"]
