"""Method `report`: one HTML file about a run; `page` puts it together."""

from alexnet_tf.visualize.report.page import add_arguments, draw

__all__ = ["add_arguments", "draw"]
