"""How a run lives on disk: the order of the measurement and the only writer of files."""
