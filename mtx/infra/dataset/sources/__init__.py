"""Sources other than the Hub, one file for each, and how files are read."""
