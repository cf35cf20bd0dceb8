"""Which generated samples are kept, and the files of a set."""
