"""T5: configuration, conversion, modules, pure functions, decoding, and the model's interface."""
