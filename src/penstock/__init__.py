"""One streaming-ELT engine for the data people own."""
