"""Reading of files and data sets, few-shot splits, corpora, encoding and batches."""
