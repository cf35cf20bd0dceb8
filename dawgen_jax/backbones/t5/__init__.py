"""T5: configuration, conversion, modules, functions, decoding, and the seam over them."""
