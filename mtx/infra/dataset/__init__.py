"""Sources of parallel text: each reads sentence pairs from files, from the Hugging Face Hub, or from other sources."""
