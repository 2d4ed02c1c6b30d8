"""Sources of parallel text besides the Hub: one module for each source, and one for each file format."""
