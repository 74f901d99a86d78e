"""Evaluation of networks: errors, confusions, reports, and the classification of single pictures."""
