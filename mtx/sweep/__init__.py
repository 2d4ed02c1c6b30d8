"""Jobs and sweeps: run a job with its status on disk, print its line in the terminal, and summarise a whole sweep."""
