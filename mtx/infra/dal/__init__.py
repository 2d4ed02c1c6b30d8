"""Storage: objects and bulk payload by name, one file a backend."""
