"""Boolean base concepts by kind, and the labels they give."""
