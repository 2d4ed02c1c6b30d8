"""Infrastructure: `dal` stores datasets and artifacts on disk or in a bucket; `dataset` reads parallel corpora."""
