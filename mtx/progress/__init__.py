"""Progress of all long work: bars on a terminal, log lines elsewhere, and the console for other output."""
