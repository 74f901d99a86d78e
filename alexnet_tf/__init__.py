"""AlexNet (Krizhevsky, Sutskever and Hinton, 2012) for TensorFlow and Keras."""

__version__ = "0.1.0"
