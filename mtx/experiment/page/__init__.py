"""The page: what a run or a sweep answers, as one HTML file that opens from disk anywhere."""
