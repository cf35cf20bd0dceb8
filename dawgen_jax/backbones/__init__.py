"""What a family of backbones offers, what families share, and the families."""
