"""What is in a data set: counts, sizes, unreadable files, copies, and what augmentation makes of it."""
