"""Data access layers: each module here implements one way of storing manifests, payload or artifacts."""
