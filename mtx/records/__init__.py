"""The files that runs and sweeps leave in their folders, as typed and versioned classes that read and write them."""
