"""The page `report.html` of a run, of a sweep, or of several: one HTML file without scripts that opens from disk."""
