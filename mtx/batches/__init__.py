"""Build batches from encoded pairs: plan the batches of an epoch, and collate rows into padded tensors."""
