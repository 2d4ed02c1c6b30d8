"""Storage and sources: what mtx knows of files, networks and tensors."""
