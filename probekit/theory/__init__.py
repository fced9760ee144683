"""What the papers prove and build: bounds and constructions as pure arrays."""
