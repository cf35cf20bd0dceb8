"""Pre-training of the embedded backbones on text of the mini world: ``python -m tools.pretrain CONFIG``."""
