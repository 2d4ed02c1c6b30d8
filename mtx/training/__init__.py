"""The data module, its loader, and the reference model."""
