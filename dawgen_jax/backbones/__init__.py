"""What every backbone offers, and T5, the first that does."""
