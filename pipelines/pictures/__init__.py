"""One picture at a time: its bytes decoded, resized, cropped, augmented and normalised."""
