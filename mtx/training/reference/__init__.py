"""Reference model: a Transformer network, and the LightningModule that trains it."""
