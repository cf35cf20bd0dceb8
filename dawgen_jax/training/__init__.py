"""One step, one host loop, optimisers, placement and checkpoints."""
