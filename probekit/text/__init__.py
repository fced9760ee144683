"""Where tokens and labels come from: corpora and concepts."""
