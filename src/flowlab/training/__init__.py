"""The loop over batches, and what it needs."""
