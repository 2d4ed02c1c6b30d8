"""Components of the config: config groups, checks of options, construction of objects, and ids."""
