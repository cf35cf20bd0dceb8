"""Reading, few-shot splits, corpora, encoding and batches."""
