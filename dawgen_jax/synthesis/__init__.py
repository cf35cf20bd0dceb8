"""Selection of generated samples, and files of synthetic sets."""
