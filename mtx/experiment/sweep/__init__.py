"""Sweeps: what each job leaves behind, what is read back from it, and what is told at the end."""
