"""What is done beside or after a run: other nulls, interventions, comparisons, listings, the word grid."""
