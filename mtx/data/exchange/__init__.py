"""Exchange of datasets with other tools and stores: export in three formats, and import of mtx's own exports."""
