"""Tokenizers, which convert texts to token ids; one module per kind of vocabulary."""
