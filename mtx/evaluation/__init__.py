"""Evaluation of a trained model: bits per byte, and translations by beam search."""
