"""SQL over batches: queries planned once for each schema, expressions, and the functions that DataFusion lacks."""
