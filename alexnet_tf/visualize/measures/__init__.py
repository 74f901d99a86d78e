"""Numbers about what a network has learnt, free of any drawing."""
